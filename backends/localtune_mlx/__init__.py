"""The MLX backend of localtune."""
