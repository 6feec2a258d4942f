"""A bundle and a film to a diagnosis: probability, heat map, or a refusal with its reason."""
