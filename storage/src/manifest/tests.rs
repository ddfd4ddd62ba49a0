//! Tests of the manifest: what is committed is what is loaded, by one writer only.
