"""Files behind URLs: which ones a provider fetches itself, and downloading the others safely."""
