"""The adversarial core: losses and penalties as pure functions of logits, volumes and a critic."""
