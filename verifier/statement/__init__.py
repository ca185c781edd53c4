"""The types of everything that crosses a trust boundary: frozen, one valid encoding each, no IO."""
