"""Files behind URLs: decides which ones a provider fetches itself, and downloads the others safely."""
