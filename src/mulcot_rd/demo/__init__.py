"""What only the shipped sample needs: its generator, and the rules that annotate and caption it without a model."""
