//! `connect/debian-package`, with the real dpkg and a root of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use muster_core::target::RunOutcome::{Failed, Succeeded};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::actions::{names, reverted, runner_of, uses};
use crate::device::{Device, pid, until};
use crate::server::{Link, Server, instruction, step};

/// A device whose dpkg has a root, a database and a configuration of its own.
async fn linked() -> (Server, Device, Link) {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    let (root, home) = (device.file("root"), device.file("home"));
    let admin = root.join("var/lib/dpkg");
    for folder in [&admin.join("info"), &admin.join("updates"), &home] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(admin.join("status"), "").unwrap();
    let config = "force-script-chrootless\nforce-not-root\nforce-bad-path\nlog=/dev/null\n";
    fs::write(home.join(".dpkg.cfg"), format!("{config}root={}\n", root.display())).unwrap();
    device.env = vec![("HOME", home), ("DPKG_ROOT", root), ("DPKG_ADMINDIR", admin)];
    device.start();
    let link = server.welcome().await;
    (server, device, link)
}

/// A `.deb` of the package `app` that holds one file.
fn deb(device: &Device, version: &str, postinst: &str) -> PathBuf {
    let (folder, deb) = (device.file(&format!("deb-{version}")), device.file(&format!("app-{version}.deb")));
    fs::create_dir_all(folder.join("DEBIAN")).unwrap();
    fs::create_dir_all(folder.join("opt/app")).unwrap();
    fs::write(folder.join("opt/app/version"), version).unwrap();
    let control = format!("Package: app\nVersion: {version}\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\n");
    fs::write(folder.join("DEBIAN/control"), control).unwrap();
    let script = folder.join("DEBIAN/postinst");
    fs::write(&script, format!("#!/bin/sh\n{postinst}\n")).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let built =
        Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(&folder).arg(&deb).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    deb
}

fn install(deb: &PathBuf) -> Value {
    reverted(uses("install", "connect/debian-package", &json!({"device-path": deb})))
}

fn installed(device: &Device) -> Option<String> {
    fs::read_to_string(device.file("root/opt/app/version")).ok()
}

#[tokio::test]
async fn a_package_is_installed_and_the_version_before_comes_back() {
    let (_server, device, mut link) = linked().await;
    let (one, two) = (deb(&device, "1.0-1", "true"), deb(&device, "2:2.0-1", "true"));
    link.instruct(&instruction("dp-1a2b-3c4d.1", &json!([install(&one), step("then", "exit 1")]), &json!({}))).await;
    let told = link.until_over(0).await;
    assert_eq!(told.end(), (Failed, "step_failed"));
    assert_eq!(names(&told)[0], ("install".to_owned(), Some(0)), "{told:?}");
    assert_eq!(names(&told)[2], ("install (revert)".to_owned(), Some(0)), "{told:?}");
    assert_eq!(installed(&device), None, "it was not there before");

    link.instruct(&instruction("dp-1a2b-3c4d.2", &json!([install(&one)]), &json!({}))).await;
    assert_eq!(link.until_over(0).await.end(), (Succeeded, ""));
    assert_eq!(installed(&device).as_deref(), Some("1.0-1"));

    link.instruct(&instruction("dp-1a2b-3c4d.3", &json!([install(&two), step("then", "exit 1")]), &json!({}))).await;
    let told = link.until_over(0).await;
    assert_eq!((names(&told)[0].1, names(&told)[2].1), (Some(0), Some(0)), "{told:?}");
    assert_eq!(installed(&device).as_deref(), Some("1.0-1"));

    let broken = deb(&device, "3.0-1", "exit 4");
    link.instruct(&instruction("dp-1a2b-3c4d.4", &json!([install(&broken)]), &json!({}))).await;
    let told = link.until_over(0).await;
    assert_eq!(told.end(), (Failed, "step_failed"));
    assert_eq!(installed(&device).as_deref(), Some("1.0-1"), "{told:?}");
}

#[tokio::test]
async fn an_installation_that_is_killed_ends_as_if_it_had_not_been() {
    let (mut server, mut device, mut link) = linked().await;
    let slow = format!("touch {}; {}", device.file("configuring").display(), device.await_file("go"));
    let slow = deb(&device, "1.0-1", &slow);
    link.instruct(&instruction("dp-1a2b-3c4d.1", &json!([install(&slow)]), &json!({}))).await;
    link.meanwhile(until("dpkg is in the middle", || device.file("configuring").exists())).await;
    let id = runner_of(&device.state().join("runs/dp-1a2b-3c4d.1/step-0")).unwrap();
    device.kill();
    kill(pid(id), Signal::SIGKILL).unwrap();
    drop(link);
    // The dpkg that was left behind waits on, and holds its lock.
    fs::remove_file(device.file("configuring")).unwrap();
    device.start();
    let mut link = server.welcome().await;
    link.meanwhile(until("dpkg is there again", || device.file("configuring").exists())).await;
    device.touch("go");
    let told = link.until_over(0).await;
    assert_eq!(told.end(), (Succeeded, ""), "{told:?}");
    assert_eq!(installed(&device).as_deref(), Some("1.0-1"));
}
