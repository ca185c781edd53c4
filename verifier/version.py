"""The version of opgate, in one place: the build, the verdicts and the commands read it here."""

__version__ = "0.1.0"
