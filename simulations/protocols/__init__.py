"""Published evaluation protocols, run on this project's policies."""
