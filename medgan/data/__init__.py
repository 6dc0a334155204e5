"""Cohorts: scans made ready for training, and how training draws from them.

- `medgan.data.prepare`: scans in, a cohort folder out;
- `medgan.data.cohort`: the cohort folder as an object;
- `medgan.data.patches`: training batches as a pure function of seed and step;
- `medgan.data.demo`: an embedded cohort of virtual subjects.
"""
