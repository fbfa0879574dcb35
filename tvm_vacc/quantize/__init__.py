"""How weights become codes and scales: the schemes, and the quantisers that choose the codes."""
