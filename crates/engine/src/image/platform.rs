//! The platform that an image is for, and the one that was asked for. An image here has one.
use corten_api::types::platform::Platform;
use oci_spec::image::ImageConfiguration;

use crate::error::{Error, Result};

/// As the configuration says it.
pub fn of(configuration: &ImageConfiguration) -> Platform {
    Platform {
        os: configuration.os().to_string(),
        architecture: configuration.architecture().to_string(),
        variant: configuration.variant().clone().unwrap_or_default(),
        ..Platform::default()
    }
}

/// Refuses an image that is for another machine than was asked for.
pub fn check(reference: &str, image: &Platform, asked: Option<&Platform>) -> Result<()> {
    match asked.filter(|asked| !asked.has(image)) {
        None => Ok(()),
        Some(asked) => Err(Error::not_found(format!(
            "image with reference {reference} was found but its platform ({image}) does not match the specified platform \
             ({asked})"
        ))),
    }
}
