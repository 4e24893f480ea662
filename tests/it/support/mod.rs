//! What several topics need: processes, ports, waiting.
