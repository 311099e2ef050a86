//! Changes of one device: its details, tags and apps, all of them or none.

use muster_core::ids::RowId;
use muster_core::invalid::Invalid;
use muster_core::names::{AppName, GroupName, TagName, Version};
use muster_core::patch::DeviceChange;
use sea_orm::ActiveValue::Set;

use crate::db::{Result, Tx};
use crate::devices::Device;
use crate::entities::devices;

impl Tx {
    /// Carries out every change, in order. An error leaves the transaction to be
    /// dropped; it names the change at fault as `place` says, by its number.
    pub async fn change_device(
        &self,
        device: &Device,
        changes: &[DeviceChange],
        place: impl Fn(usize) -> String,
    ) -> Result<()> {
        self.claim_device(device.id).await?;
        for (i, change) in changes.iter().enumerate() {
            self.change_one(device, change).await.map_err(|error| error.within(&place(i)))?;
        }
        Ok(())
    }

    async fn change_one(&self, device: &Device, change: &DeviceChange) -> Result<()> {
        let unset = devices::ActiveModel::default;
        let columns = match change {
            DeviceChange::Name(name) => devices::ActiveModel { name: Set(name.as_str().to_owned()), ..unset() },
            DeviceChange::Description(text) => {
                devices::ActiveModel { description: Set(text.as_str().to_owned()), ..unset() }
            }
            DeviceChange::Address(text) => devices::ActiveModel { address: Set(text.as_str().to_owned()), ..unset() },
            DeviceChange::Lat(lat) => devices::ActiveModel { lat: Set(*lat), ..unset() },
            DeviceChange::Lng(lng) => devices::ActiveModel { lng: Set(*lng), ..unset() },
            DeviceChange::UpdateTrigger(is_set) => {
                devices::ActiveModel { is_update_trigger_set: Set(*is_set), ..unset() }
            }
            DeviceChange::Group(name) => {
                devices::ActiveModel { group_id: Set(self.group_of(device, name).await?), ..unset() }
            }
            DeviceChange::AddTags(_) | DeviceChange::RemoveTags(_) | DeviceChange::ReplaceTags(_) => {
                return self.change_tags(device, change).await;
            }
            DeviceChange::SetApps(_) | DeviceChange::RemoveApps(_) | DeviceChange::ReplaceApps(_) => {
                return self.change_apps(device, change).await;
            }
        };
        self.update_device(device.id, columns).await
    }

    async fn group_of(&self, device: &Device, name: &GroupName) -> Result<RowId> {
        let group = self.find_group(device.fleet_id, name).await?;
        Ok(group.ok_or_else(|| Invalid::unknown("", "group of the fleet", name.as_str()))?)
    }

    async fn change_tags(&self, device: &Device, change: &DeviceChange) -> Result<()> {
        match change {
            DeviceChange::RemoveTags(names) => self.remove_tags(device, names).await,
            DeviceChange::ReplaceTags(names) => {
                self.clear_device_tags(device.id).await?;
                self.add_tags(device, names).await
            }
            DeviceChange::AddTags(names) => self.add_tags(device, names).await,
            _ => Ok(()),
        }
    }

    async fn add_tags(&self, device: &Device, names: &[TagName]) -> Result<()> {
        for name in names {
            let tag_id = self.ensure_tag(device.account_id, name).await?;
            self.tag_device(device.id, tag_id).await?;
        }
        Ok(())
    }

    async fn remove_tags(&self, device: &Device, names: &[TagName]) -> Result<()> {
        for (i, name) in names.iter().enumerate() {
            let tag = self.find_tag(device.account_id, name).await?;
            let tag_id = tag.ok_or_else(|| Invalid::unknown(format!("[{i}]"), "tag", name.as_str()))?;
            self.untag_device(device.id, tag_id).await?;
        }
        Ok(())
    }

    async fn change_apps(&self, device: &Device, change: &DeviceChange) -> Result<()> {
        match change {
            DeviceChange::RemoveApps(names) => self.remove_apps(device, names).await,
            DeviceChange::ReplaceApps(apps) => {
                self.clear_device_apps(device.id).await?;
                self.set_apps(device, apps).await
            }
            DeviceChange::SetApps(apps) => self.set_apps(device, apps).await,
            _ => Ok(()),
        }
    }

    async fn set_apps(&self, device: &Device, apps: &[(AppName, Version)]) -> Result<()> {
        for (i, (name, version)) in apps.iter().enumerate() {
            let app_id = self.known_app(device, name, &format!("[{i}].app_name")).await?;
            self.set_app_version(device.id, app_id, version).await?;
        }
        Ok(())
    }

    async fn remove_apps(&self, device: &Device, names: &[AppName]) -> Result<()> {
        for (i, name) in names.iter().enumerate() {
            let app_id = self.known_app(device, name, &format!("[{i}]")).await?;
            self.remove_device_app(device.id, app_id).await?;
        }
        Ok(())
    }

    async fn known_app(&self, device: &Device, name: &AppName, place: &str) -> Result<RowId> {
        let app = self.find_app(device.account_id, name).await?;
        Ok(app.ok_or_else(|| Invalid::unknown(place, "app", name.as_str()))?)
    }
}
