"""More examples, or few, on demand: ``--hypothesis-profile=more`` or ``HYPOTHESIS_PROFILE=more``."""

import os

from hypothesis import settings

settings.register_profile("more", max_examples=1000)
settings.register_profile("few", max_examples=20)
if profile := os.environ.get("HYPOTHESIS_PROFILE"):
    settings.load_profile(profile)
