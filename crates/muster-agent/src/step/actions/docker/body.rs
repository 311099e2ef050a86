//! What the engine is told to create, from the words of a flow. Pure.

use muster_core::flow::actions::docker::{Docker, RunOptions};
use muster_core::flow::actions::values::{ByteSize, Count, Cpus, DevicePath, PortMapping, Restart, Text, Words};
use serde_json::{Map, Value, json};

use crate::step::context::Failure;

/// The body of `POST /containers/create`: a container of `image` that begins with `restart`.
pub(super) fn create(
    with: &Docker,
    image: &str,
    restart: &Value,
    own_labels: &[(&str, String)],
) -> Result<Value, Failure> {
    let options = &with.run_options;
    let mut labels: Map<String, Value> =
        options.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    labels.extend(own_labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
    let words = |words: &Words| words.get().map_err(Failure::because);
    let ports: Map<String, Value> = bindings(options).keys().map(|port| (port.clone(), json!({}))).collect();
    let body = json!({
        "Image": image,
        "Cmd": with.command.as_ref().map(words).transpose()?,
        "Entrypoint": options.entrypoint.as_ref().map(words).transpose()?,
        "Env": options.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "Labels": labels,
        "User": options.user.as_ref().map(Text::as_str),
        "WorkingDir": options.workdir.as_ref().map(DevicePath::as_str),
        "Hostname": options.hostname.as_ref().map(Text::as_str),
        "ExposedPorts": ports,
        "StopTimeout": options.stop_timeout.as_ref().and_then(Count::get),
        "Healthcheck": healthcheck(options),
        "HostConfig": host(options, restart),
    });
    Ok(without_nulls(body))
}

/// The engine's words for a restart policy; never unless one is given.
pub(super) fn restart_policy(restart: Option<&Restart>) -> Value {
    let text = restart.map_or("no", Restart::as_str);
    let (name, times) = text.split_once(':').unwrap_or((text, "0"));
    json!({"Name": name, "MaximumRetryCount": times.parse::<u32>().unwrap_or(0)})
}

fn host(options: &RunOptions, restart: &Value) -> Value {
    let texts = |texts: &[String]| (!texts.is_empty()).then(|| json!(texts));
    let listed = |items: Vec<String>| texts(&items);
    json!({
        "RestartPolicy": restart,
        "PortBindings": bindings(options),
        "Binds": listed(options.volumes.iter().map(ToString::to_string).collect()),
        "Tmpfs": options.tmpfs.iter().map(|path| (path.as_str().to_owned(), json!(""))).collect::<Map<_, _>>(),
        "NetworkMode": options.network.as_ref().map(Text::as_str),
        "ExtraHosts": listed(options.add_host.iter().map(ToString::to_string).collect()),
        "Devices": options.devices.iter().map(|device| device_of(device.as_str())).collect::<Vec<_>>(),
        "CapAdd": listed(options.cap_add.iter().map(ToString::to_string).collect()),
        "CapDrop": listed(options.cap_drop.iter().map(ToString::to_string).collect()),
        "Privileged": options.privileged.is_set(),
        "ReadonlyRootfs": options.read_only.is_set(),
        "Init": options.init.is_set().then_some(true),
        "Memory": options.memory.as_ref().and_then(ByteSize::get),
        "ShmSize": options.shm_size.as_ref().and_then(ByteSize::get),
        "NanoCpus": options.cpus.as_ref().and_then(Cpus::nano),
        "PidsLimit": options.pids_limit.as_ref().and_then(Count::get),
        "LogConfig": options.log_driver.as_ref().map(|driver| json!({"Type": driver.as_str(), "Config": options.log_opt.clone().unwrap_or_default()})),
    })
}

fn bindings(options: &RunOptions) -> Map<String, Value> {
    let mut found: Map<String, Value> = Map::new();
    for ports in options.ports.iter().filter_map(PortMapping::get) {
        let device = ports.device.map(|port| port.to_string()).unwrap_or_default();
        let binding = json!({"HostIp": ports.address, "HostPort": device});
        let key = format!("{}/{}", ports.container, ports.protocol);
        if let Some(bindings) = found.entry(key).or_insert_with(|| json!([])).as_array_mut() {
            bindings.push(binding);
        }
    }
    found
}

fn device_of(text: &str) -> Value {
    let mut parts = text.split(':');
    let device = parts.next().unwrap_or_default();
    let inside = parts.next().unwrap_or(device);
    json!({"PathOnHost": device, "PathInContainer": inside, "CgroupPermissions": parts.next().unwrap_or("rwm")})
}

/// What of the health check the flow sets; the rest is the image's.
fn healthcheck(options: &RunOptions) -> Option<Value> {
    let nanoseconds = |count: &Option<Count>| count.as_ref().and_then(Count::get).map(|s| u64::from(s) * 1_000_000_000);
    let check = without_nulls(json!({
        "Test": options.health_cmd.as_ref().map(|command| json!(["CMD-SHELL", command.as_str()])),
        "Interval": nanoseconds(&options.health_interval_seconds),
        "Timeout": nanoseconds(&options.health_timeout_seconds),
        "StartPeriod": nanoseconds(&options.health_start_period_seconds),
        "Retries": options.health_retries.as_ref().and_then(Count::get),
    }));
    check.as_object().is_some_and(|check| !check.is_empty()).then_some(check)
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, item| !item.is_null());
        for (_, item) in map.iter_mut() {
            *item = without_nulls(item.take());
        }
    }
    value
}

/// Whether a container that ended well is started again.
pub(super) fn is_kept_running(restart: Option<&Restart>) -> bool {
    restart.is_some_and(|restart| matches!(restart.as_str(), "always" | "unless-stopped"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(with: Value) -> Value {
        let with: Docker = serde_json::from_value(with).unwrap();
        let restart = restart_policy(with.run_options.restart.as_ref());
        create(&with, "r/a@sha256:1", &restart, &[("muster.run", "x".to_owned())]).unwrap()
    }

    #[test]
    fn says_little_when_little_is_said() {
        let found = body(json!({"registry": "r", "image-path": "a", "image-tag": "1"}));
        let expected = json!({
            "Image": "r/a@sha256:1", "Env": [], "Labels": {"muster.run": "x"}, "ExposedPorts": {},
            "HostConfig": {
                "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "PortBindings": {}, "Tmpfs": {},
                "Devices": [], "Privileged": false, "ReadonlyRootfs": false,
            },
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn says_all_that_is_said() {
        let found = body(json!({
            "registry": "r", "image-path": "a", "image-tag": "1", "command": "echo 'a b'",
            "run-options": {
                "name": "till", "restart": "on-failure:3", "env": {"A": "1=2"},
                "ports": ["8080:80", "127.0.0.1:8081:80", "53/udp"], "volumes": ["/srv:/data:ro", "v:/v"],
                "tmpfs": ["/tmp"], "network": "host", "hostname": "h", "add-host": ["db:10.0.0.1"], "user": "1:2",
                "workdir": "/w", "entrypoint": ["sh", "-c"], "labels": {"a": "b"}, "devices": ["/dev/ttyS0", "/dev/a:/dev/b:r"],
                "cap-add": ["NET_ADMIN"], "cap-drop": ["ALL"], "privileged": true, "read-only": "true", "init": true,
                "memory": "64m", "shm-size": "1k", "cpus": 1.5, "pids-limit": 9, "log-driver": "local",
                "log-opt": {"max-size": "1m"}, "stop-timeout": 7, "health-cmd": "test -e /ok",
                "health-interval-seconds": 2, "health-retries": 4,
            },
        }));
        let expected = json!({
            "Image": "r/a@sha256:1", "Cmd": ["echo", "a b"], "Entrypoint": ["sh", "-c"], "Env": ["A=1=2"],
            "Labels": {"a": "b", "muster.run": "x"}, "User": "1:2", "WorkingDir": "/w", "Hostname": "h",
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "StopTimeout": 7,
            "Healthcheck": {"Test": ["CMD-SHELL", "test -e /ok"], "Interval": 2_000_000_000_u64, "Retries": 4},
            "HostConfig": {
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
                "PortBindings": {
                    "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8081"}],
                    "53/udp": [{"HostIp": "", "HostPort": ""}],
                },
                "Binds": ["/srv:/data:ro", "v:/v"], "Tmpfs": {"/tmp": ""}, "NetworkMode": "host",
                "ExtraHosts": ["db:10.0.0.1"],
                "Devices": [
                    {"PathOnHost": "/dev/ttyS0", "PathInContainer": "/dev/ttyS0", "CgroupPermissions": "rwm"},
                    {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"},
                ],
                "CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"], "Privileged": true, "ReadonlyRootfs": true, "Init": true,
                "Memory": 64 << 20, "ShmSize": 1024, "NanoCpus": 1_500_000_000, "PidsLimit": 9,
                "LogConfig": {"Type": "local", "Config": {"max-size": "1m"}},
            },
        });
        assert_eq!(found, expected);
    }
}
