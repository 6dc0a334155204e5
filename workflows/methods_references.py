"""What a methods paragraph cites, by key."""

from __future__ import annotations

import re

REFERENCES = {
    "adam": "Kingma DP, Ba J. Adam: a method for stochastic optimization. ICLR 2015.",
    "ada": "Karras T, et al. Training generative adversarial networks with limited data. NeurIPS 2020.",
    "alpha_wgan": "Kwon G, Han C, Kim D. Generation of 3D brain MRI using auto-encoding generative adversarial "
    "networks. MICCAI 2019.",
    "charbonnier": "Charbonnier P, et al. Two deterministic half-quadratic regularization algorithms for computed "
    "imaging. ICIP 1994.",
    "coverage": "Naeem MF, et al. Reliable fidelity and diversity metrics for generative models. ICML 2020.",
    "cyclegan": "Zhu JY, et al. Unpaired image-to-image translation using cycle-consistent adversarial networks. ICCV "
    "2017.",
    "dcgan": "Radford A, Metz L, Chintala S. Unsupervised representation learning with deep convolutional generative "
    "adversarial networks. ICLR 2016.",
    "dragan": "Kodali N, et al. On convergence and stability of GANs. arXiv:1705.07215, 2017.",
    "esrgan": "Wang X, et al. ESRGAN: enhanced super-resolution generative adversarial networks. ECCV Workshops 2018.",
    "frechet": "Heusel M, et al. GANs trained by a two time-scale update rule converge to a local Nash equilibrium. "
    "NeurIPS 2017.",
    "frechet_infinity": "Chong MJ, Forsyth D. Effectively unbiased FID and inception score and where to find them. "
    "CVPR 2020.",
    "gan": "Goodfellow I, et al. Generative adversarial nets. NeurIPS 2014.",
    "gradient_penalty": "Gulrajani I, et al. Improved training of Wasserstein GANs. NeurIPS 2017.",
    "hagan": "Sun L, et al. Hierarchical amortized GAN for 3D high resolution medical image synthesis. IEEE J Biomed "
    "Health Inform 2022.",
    "hfen": "Ravishankar S, Bresler Y. MR image reconstruction from highly undersampled k-space data by dictionary "
    "learning. IEEE Trans Med Imaging 2011.",
    "hinge": "Lim JH, Ye JC. Geometric GAN. arXiv:1705.02894, 2017.",
    "kid": "Bińkowski M, et al. Demystifying MMD GANs. ICLR 2018.",
    "least_squares": "Mao X, et al. Least squares generative adversarial networks. ICCV 2017.",
    "lecam": "Tseng HY, et al. Regularizing generative adversarial networks under limited data. CVPR 2021.",
    "mmd": "Gretton A, et al. A kernel two-sample test. J Mach Learn Res 2012.",
    "monai": "Cardoso MJ, et al. MONAI: an open-source framework for deep learning in healthcare. arXiv:2211.02701, "
    "2022.",
    "ms_ssim": "Wang Z, Simoncelli EP, Bovik AC. Multiscale structural similarity for image quality assessment. "
    "Asilomar 2003.",
    "pix2pix": "Isola P, et al. Image-to-image translation with conditional adversarial networks. CVPR 2017.",
    "precision": "Kynkäänniemi T, et al. Improved precision and recall metric for assessing generative models. NeurIPS "
    "2019.",
    "progressive": "Karras T, et al. Progressive growing of GANs for improved quality, stability, and variation. ICLR "
    "2018.",
    "projection": "Miyato T, Koyama M. cGANs with projection discriminator. ICLR 2018.",
    "r1": "Mescheder L, Geiger A, Nowozin S. Which training methods for GANs do actually converge? ICML 2018.",
    "r3gan": "Huang N, et al. The GAN is dead; long live the GAN! A modern GAN baseline. NeurIPS 2024.",
    "relativistic": "Jolicoeur-Martineau A. The relativistic discriminator: a key element missing from standard GAN. "
    "ICLR 2019.",
    "residual_dense": "Zhang Y, et al. Residual dense network for image super-resolution. CVPR 2018.",
    "spade": "Park T, et al. Semantic image synthesis with spatially-adaptive normalization. CVPR 2019.",
    "ssim": "Wang Z, et al. Image quality assessment: from error visibility to structural similarity. IEEE Trans Image "
    "Process 2004.",
    "stylegan": "Karras T, et al. Analyzing and improving the image quality of StyleGAN. CVPR 2020.",
    "torch": "Paszke A, et al. PyTorch: an imperative style, high-performance deep learning library. NeurIPS 2019.",
    "vqgan": "Esser P, Rombach R, Ommer B. Taming transformers for high-resolution image synthesis. CVPR 2021.",
    "wasserstein": "Arjovsky M, Chintala S, Bottou L. Wasserstein generative adversarial networks. ICML 2017.",
    "wide_activation": "Yu J, et al. Wide activation for efficient and accurate image super-resolution. "
    "arXiv:1808.08718, 2018.",
}


def cited(text: str) -> tuple[str, list[str]]:
    """A text whose citations "{key}" became numbers "[1]", and the references in the order of first mention.

    Raises:
        KeyError: a key has no reference.
    """
    order: list[str] = []

    def number(match: re.Match[str]) -> str:
        key = match[1]
        if key not in order:
            order.append(key)
        return f"[{order.index(key) + 1}]"

    numbered = re.sub(r"\{([a-z_0-9]+)\}", number, text)
    return numbered, [REFERENCES[key] for key in order]
