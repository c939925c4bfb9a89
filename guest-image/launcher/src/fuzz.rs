//! What the fuzz targets need of this crate and nobody else: private parsers, by thin wrappers.

/// The modules that a module file says it depends on.
#[must_use]
pub fn module_depends(module: &[u8]) -> Option<Vec<String>> {
    crate::image::modules::depends_of(module)
}
