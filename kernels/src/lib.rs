//! Maximum inner products over slices.
