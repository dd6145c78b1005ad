//! Events become changes.
