"""Modules and data of other tasks than image classification, each with what it takes to move its masks."""
