//! What bears tags in the Tag Service: anything that has a kind, a place and an id.

use std::fmt;

use crate::names::{Region, ResourceId, ResourceUuid, ServiceType, Tag};

/// The kind of resources that are Muster's own devices.
pub const DEVICE: &str = "DEVICE";

/// A resource as the Tag Service names it. A device is `DEVICE`, its fleet's key, its uuid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// Its kind.
    pub service_type: ServiceType,
    /// Where it is.
    pub region: Region,
    /// Which of that kind and place.
    pub id: ResourceId,
}

impl Resource {
    /// Whether it is one of Muster's own devices.
    pub fn is_device(&self) -> bool {
        self.service_type.as_str() == DEVICE
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.service_type, self.region, self.id)
    }
}

/// All the tags that a resource is to bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The resource.
    pub resource: Resource,
    /// Its second name; empty for none. A device has its own.
    pub uuid: ResourceUuid,
    /// Every tag, in any order; none to take all of them off.
    pub tags: Vec<Tag>,
}
