"""The accuracy passport: a model against transformers in fp32, on a text of its own."""
