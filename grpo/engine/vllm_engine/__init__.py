"""The only folder that imports vLLM; nothing is imported with it, because servers of vLLM load its plug-in."""
