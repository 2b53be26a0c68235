"""Callbacks for any LightningModule, and the ones every run here has."""
