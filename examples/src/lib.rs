//! Placeholder until the package has content.
