//! The data monitor: names made beforehand, values that devices send under them.

use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::{MONITOR_RECORDS_MAX, MONITOR_VALUES_MAX};
use muster_core::monitor::MonitorValue;
use muster_core::names::ParameterName;
use muster_store::devices::Device;
use muster_store::monitor::{AppParameter, AppRecord};
use serde_json::json;

use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// Makes a name.
pub async fn create(app: &App, permitted: &Permitted, name: &ParameterName) -> Result<AppParameter> {
    let work = app.store.write(|tx| async move {
        let fleet_id = permitted.fleet().id;
        if !tx.find_app_parameters(fleet_id, &[name.as_str()]).await?.is_empty() {
            return Err(OpError::taken("name", "parameter", name.as_str()).into());
        }
        let made = tx.insert_app_parameter(fleet_id, name).await?;
        let detail = json!({ "before": null, "after": { "name": name } });
        tx.audit(&permitted.event(format!("app-parameter:{name}"), detail)).await?;
        Ok::<_, WorkError>(made)
    });
    Ok(work.await?)
}

/// Deletes a name with all its values.
pub async fn delete(app: &App, permitted: &Permitted, name: &str) -> Result<()> {
    let unknown = || OpError::not_found("parameter", name);
    let known = ParameterName::parse(name).map_err(|_| unknown())?;
    let known = &known;
    let work = app.store.write(|tx| async move {
        let found = tx.find_app_parameters(permitted.fleet().id, &[known.as_str()]).await?;
        let parameter = found.first().ok_or_else(unknown)?;
        tx.delete_app_parameter(parameter.id).await?;
        let detail = json!({ "before": { "name": known }, "after": null });
        tx.audit(&permitted.event(format!("app-parameter:{known}"), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// A name with its value, as a caller wrote them.
#[derive(Clone, Debug)]
pub struct SentValue {
    /// The name.
    pub name: String,
    /// The value.
    pub value: serde_json::Value,
}

/// What the fields of a value are called where it came from, for refusals.
#[derive(Clone, Copy, Debug)]
pub struct ValueFields {
    /// That of the name.
    pub name: &'static str,
    /// That of the value.
    pub value: &'static str,
}

/// Stores values of a device: all of them, or none. Like keepalives they leave no
/// trace in the audit log.
pub async fn record(
    app: &App,
    permitted: &Permitted,
    device: &Device,
    sent: Vec<SentValue>,
    fields: ValueFields,
) -> Result<()> {
    if sent.is_empty() || sent.len() > MONITOR_VALUES_MAX {
        let problem = format!("has {} items, 1 to {MONITOR_VALUES_MAX} are allowed", sent.len());
        return Err(Invalid::new("app_parameters", problem).into());
    }
    let values = checked(sent, fields)?;
    let values = &values;
    let work = app.store.write(|tx| async move {
        let names: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
        let known = tx.find_app_parameters(permitted.fleet().id, &names).await?;
        let mut rows = Vec::with_capacity(values.len());
        for (i, (name, value)) in values.iter().enumerate() {
            let parameter = known.iter().find(|parameter| parameter.name == name.as_str());
            let place = format!("app_parameters[{i}].{}", fields.name);
            let parameter =
                parameter.ok_or_else(|| Invalid::unknown(place, "parameter of the project", name.as_str()))?;
            rows.push((parameter.id, value));
        }
        tx.insert_app_records(device.id, &rows).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

fn checked(sent: Vec<SentValue>, fields: ValueFields) -> Result<Vec<(ParameterName, MonitorValue)>, Invalid> {
    let one = |(i, sent): (usize, SentValue)| {
        let within = |refusal: Invalid, field: &str| refusal.within(field).within(&format!("app_parameters[{i}]"));
        let name = ParameterName::parse(sent.name).map_err(|refusal| within(refusal, fields.name))?;
        let value = MonitorValue::parse(sent.value).map_err(|refusal| within(refusal, fields.value))?;
        Ok((name, value))
    };
    sent.into_iter().enumerate().map(one).collect()
}

/// The last values of a device, newest first.
pub async fn last(app: &App, device: &Device, project_name: Option<&str>) -> Result<Vec<AppRecord>> {
    if let Some(name) = project_name.filter(|name| *name != device.fleet_name) {
        return Err(Invalid::new("project_name", format!("{} is not the project of the device", quoted(name))).into());
    }
    Ok(app.store.read().app_records(device.id, MONITOR_RECORDS_MAX).await?)
}
