"""What a reader sees: tables measured beside published, baselines, figures, case studies."""
