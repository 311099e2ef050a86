//! HTTP faces, device sessions and the deployment engine.
