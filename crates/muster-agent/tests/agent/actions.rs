//! The ready-made actions: done, put back, and interrupted.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_core::target::RunOutcome::{Failed, Succeeded};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::artifacts::{After, Shelf};
use crate::device::{Device, pid, until};
use crate::server::{Link, Server, Told, instruction, step};

const RUN: &str = "dp-1a2b-3c4d.1";

async fn linked() -> (Server, Device, Link) {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    let link = server.welcome().await;
    (server, device, link)
}

pub(crate) fn uses(name: &str, action: &str, with: &Value) -> Value {
    json!({"name": name, "uses": {"name": action, "with": with}, "timeout_ms": 60_000})
}

/// The same step, whose files are put back when it or a later step fails.
pub(crate) fn reverted(mut step: Value) -> Value {
    step["on_failure"] = json!({"is_revert_all_files": true, "trigger": "any-step-failure"});
    step
}

pub(crate) fn names(told: &Told) -> Vec<(String, Option<i32>)> {
    told.summary()
}

async fn run(link: &mut Link, steps: &Value) -> Told {
    link.instruct(&instruction(RUN, steps, &json!({}))).await;
    link.until_over(0).await
}

/// Names below a folder, without those of the agent.
fn listed(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A folder of its own for what steps write.
fn folder(device: &Device) -> PathBuf {
    let folder = device.file("etc");
    fs::create_dir(&folder).unwrap();
    folder
}

/// The process that runs the step, when one does.
pub(crate) fn runner_of(step: &Path) -> Option<u32> {
    let wanted = step.to_str().unwrap().as_bytes();
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        line.split(|byte| *byte == 0).any(|word| word == wanted).then_some(id)
    })
}

#[tokio::test]
async fn a_file_is_written_whole_with_its_mode_and_inputs() {
    let (_server, device, mut link) = linked().await;
    let path = folder(&device).join("app.conf");
    let with = json!({"device-path": path, "content": "port=${{ inputs.port }}\n", "mode": "0640"});
    let mut wanted =
        instruction(RUN, &json!([uses("conf", "connect/file", &with)]), &json!({"inputs": [{"name": "port"}]}));
    wanted.inputs.insert("port".to_owned(), "81".to_owned());
    link.instruct(&wanted).await;
    let told = link.until_over(0).await;
    assert_eq!((told.end(), names(&told)), ((Succeeded, ""), vec![("conf".to_owned(), Some(0))]));
    assert_eq!(fs::read_to_string(&path).unwrap(), "port=81\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(listed(path.parent().unwrap()), ["app.conf"]);
    assert_eq!(listed(&device.state().join("runs").join(RUN)), ["instruction.json", "journal.jsonl"]);
}

#[tokio::test]
async fn a_later_failure_puts_back_what_two_steps_changed() {
    let (_server, device, mut link) = linked().await;
    let folder = folder(&device);
    let (conf, new) = (folder.join("conf"), folder.join("new"));
    fs::write(&conf, "old").unwrap();
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o4711)).unwrap();
    let before = fs::metadata(&conf).unwrap();
    let write = |name: &str, path: &Path, content: &str| {
        reverted(uses(name, "connect/file", &json!({"device-path": path, "content": content, "mode": "0600"})))
    };
    let steps = json!([write("a", &conf, "one"), write("b", &new, "x"), write("c", &conf, "two"), step("d", "exit 7")]);
    let told = run(&mut link, &steps).await;
    let expected = [("a", 0), ("b", 0), ("c", 0), ("d", 7), ("a (revert)", 0), ("b (revert)", 0), ("c (revert)", 0)];
    assert_eq!(names(&told), expected.map(|(name, code)| (name.to_owned(), Some(code))));
    assert_eq!(told.end(), (Failed, "step_failed"));
    assert_eq!((fs::read_to_string(&conf).unwrap().as_str(), new.exists()), ("old", false));
    let after = fs::metadata(&conf).unwrap();
    assert_eq!((after.mode(), after.mtime_nsec()), (before.mode(), before.mtime_nsec()));
    assert_eq!(listed(&folder), ["conf"]);
    assert!(told.steps()[4].stdout.contains("as it was before step \"a\""), "{:?}", told.steps()[4]);
}

#[tokio::test]
async fn what_cannot_be_done_changes_nothing_and_says_why() {
    let (_server, device, mut link) = linked().await;
    let gone = device.file("gone/app.conf");
    let cases = [
        (json!({"device-path": gone, "content": ""}), "No such file or directory"),
        (json!({"device-path": "/", "content": ""}), "is a folder"),
        (json!({"device-path": device.file("x"), "content": "", "owner": "nobody-here"}), "no user \"nobody-here\""),
    ];
    for (i, (with, why)) in cases.iter().enumerate() {
        let run = format!("dp-1a2b-3c4d.{}", i + 1);
        link.instruct(&instruction(&run, &json!([uses("conf", "connect/file", with)]), &json!({}))).await;
        let told = link.until_over(0).await;
        assert_eq!((told.end(), told.steps()[0].exit_code), ((Failed, "step_failed"), Some(1)));
        assert!(told.steps()[0].stderr.contains(why), "{}", told.steps()[0].stderr);
        assert!(told.reason().contains(why), "{}", told.reason());
    }
    assert!(!device.file("x").exists() && !device.file("gone").exists());
}

#[tokio::test]
async fn a_script_has_its_interpreter_arguments_and_environment() {
    let (_server, device, mut link) = linked().await;
    let with = json!({
        "script": "printf '%s|' \"$0\" \"$@\" \"$COLOUR\" \"$PWD\"; exit 3", "interpreter": "bash",
        "args": ["a b", "c"], "env": {"COLOUR": "red"}, "working-directory": device.state(),
    });
    let told = run(&mut link, &json!([uses("s", "connect/script", &with)])).await;
    let state = device.state();
    let script = state.join("runs").join(RUN).join("saved-0/script");
    assert_eq!(told.steps()[0].stdout, format!("{}|a b|c|red|{}|", script.display(), state.display()));
    assert_eq!((told.steps()[0].exit_code, told.end()), (Some(3), (Failed, "step_failed")));
}

#[tokio::test]
async fn a_script_that_is_killed_is_not_run_again_and_its_folder_is_put_back_through_another_kill() {
    let (mut server, mut device, mut link) = linked().await;
    let folder = folder(&device);
    for i in 0..200 {
        fs::write(folder.join(format!("f{i}")), format!("old {i}")).unwrap();
    }
    let wreck = format!(
        "{}; cd {}; for f in *; do echo new > $f; done; rm f7; mkdir f7; touch g; touch {}; sleep 1000",
        device.append("log", "ran"),
        folder.display(),
        device.file("wrecked").display()
    );
    let with = json!({"script": wreck, "changes": [folder]});
    let steps = json!([reverted(uses("s", "connect/script", &with)), step("next", &device.append("log", "next"))]);
    link.instruct(&instruction(RUN, &steps, &json!({}))).await;
    link.meanwhile(until("the folder is wrecked", || device.file("wrecked").exists())).await;
    let run = device.state().join("runs").join(RUN);
    let id = runner_of(&run.join("step-0")).unwrap();
    kill(pid(id), Signal::SIGKILL).unwrap();
    // The restoration is killed as well, and the agent with it.
    let is_begun = || {
        listed(&folder)
            .iter()
            .any(|name| fs::read_to_string(folder.join(name)).is_ok_and(|text| text.starts_with("old")))
    };
    link.meanwhile(until("the restoration begins", is_begun)).await;
    device.kill();
    if let Some(id) = runner_of(&run.join("step-1")) {
        let _ = kill(pid(id), Signal::SIGKILL);
    }
    drop(link);
    device.start();
    let told = server.welcome().await.until_over(0).await;
    assert_eq!(told.end(), (Failed, "step_interrupted"));
    assert_eq!(names(&told), [("s".to_owned(), None), ("s (revert)".to_owned(), Some(0))]);
    assert_eq!(device.lines("log"), ["ran"]);
    assert_eq!(listed(&folder).len(), 200);
    for i in 0..200 {
        assert_eq!(fs::read_to_string(folder.join(format!("f{i}"))).unwrap(), format!("old {i}"));
    }
}

fn download(path: &Path, more: &Value) -> Value {
    let mut with = json!({"registry": "r", "artifactory-path": "repo/app.bin", "device-path": path});
    for (key, value) in more.as_object().unwrap() {
        with[key] = value.clone();
    }
    uses("fetch", "connect/download-artifact", &with)
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|i| b'a' + u8::try_from(i * i % 26).unwrap()).collect()
}

async fn instruct_download(link: &mut Link, shelf: &Shelf, steps: &Value) {
    let mut wanted = instruction(RUN, steps, &json!({}));
    wanted.artifacts.insert("0".to_owned(), shelf.artifact());
    link.instruct(&wanted).await;
}

#[tokio::test]
async fn an_artifact_is_fetched_through_cut_links_without_fetching_twice() {
    let (_server, device, mut link) = linked().await;
    let folder = folder(&device);
    let (content, shelf) = (text(300_000), Shelf::with(&text(300_000)).await);
    shelf.now(After::Cut(120_000));
    instruct_download(&mut link, &shelf, &json!([download(&folder, &json!({}))])).await;
    let told = link.until_over(0).await;
    assert_eq!(told.end(), (Succeeded, ""), "{told:?}");
    assert_eq!(fs::read(folder.join("app.bin")).unwrap(), content);
    assert_eq!(listed(&folder), ["app.bin"]);
    let requests = shelf.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 3);
    assert!(requests[0].starts_with("GET /repo/app.bin?x=1 HTTP/1.1"), "{}", requests[0]);
    assert!(requests.iter().all(|head| head.contains("authorization: Bearer short-lived")));
    assert!(requests[1].contains("range: bytes=120000-") && requests[2].contains("range: bytes=240000-"));
}

#[tokio::test]
async fn a_wrong_artifact_is_refused_and_the_file_before_stays() {
    let (_server, device, mut link) = linked().await;
    let path = folder(&device).join("app.bin");
    fs::write(&path, "old").unwrap();
    let shelf = Shelf::with(&text(1_000)).await;
    let cases = [("SHA-256", None, Some("0".repeat(64))), ("larger", Some(10), None)];
    for (i, (why, size_bytes, sha256)) in cases.into_iter().enumerate() {
        let mut wanted =
            instruction(&format!("dp-1a2b-3c4d.{}", i + 1), &json!([download(&path, &json!({}))]), &json!({}));
        let mut artifact = shelf.artifact();
        artifact.size_bytes = size_bytes.or(artifact.size_bytes);
        artifact.sha256 = sha256.or(artifact.sha256);
        wanted.artifacts.insert("0".to_owned(), artifact);
        link.instruct(&wanted).await;
        let told = link.until_over(0).await;
        assert_eq!(told.end(), (Failed, "step_failed"));
        assert!(told.reason().contains(why), "{}", told.reason());
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(listed(path.parent().unwrap()), ["app.bin"]);
}

#[tokio::test]
async fn a_fetch_goes_on_after_its_runner_and_the_agent_were_killed() {
    let (mut server, mut device, mut link) = linked().await;
    let path = folder(&device).join("app.bin");
    let (content, shelf) = (text(300_000), Shelf::with(&text(300_000)).await);
    shelf.now(After::Silence(100_000));
    instruct_download(&mut link, &shelf, &json!([download(&path, &json!({}))])).await;
    let part = path.with_file_name(format!(".app.bin.muster-{RUN}-0"));
    link.meanwhile(until("a part is there", || fs::metadata(&part).is_ok_and(|part| part.len() == 100_000))).await;
    shelf.now(After::Nothing);
    let id = runner_of(&device.state().join("runs").join(RUN).join("step-0")).unwrap();
    device.kill();
    kill(pid(id), Signal::SIGKILL).unwrap();
    drop(link);
    device.start();
    let told = server.welcome().await.until_over(0).await;
    assert_eq!(told.end(), (Succeeded, ""), "{told:?}");
    assert_eq!(fs::read(&path).unwrap(), content);
    let requests = shelf.requests.lock().unwrap().clone();
    assert!(requests.len() == 2 && requests[1].contains("range: bytes=100000-"), "{requests:?}");
}

#[tokio::test]
async fn a_fetch_keeps_to_its_bandwidth() {
    let (_server, device, mut link) = linked().await;
    let path = folder(&device).join("app.bin");
    let shelf = Shelf::with(&text(50_000)).await;
    let capped = download(&path, &json!({"max-kilobytes-per-second": 100}));
    instruct_download(&mut link, &shelf, &json!([capped])).await;
    let told = link.until_over(0).await;
    let step = told.steps()[0];
    let took_ms = step.finished_at.as_millis() - step.started_at.as_millis();
    assert!(told.end() == (Succeeded, "") && took_ms >= 500, "{took_ms} ms");
}

/// A bare repository with two commits, of which the first is tagged `v1`.
fn repository(device: &Device) -> PathBuf {
    let (work, bare) = (device.file("work"), device.file("app.git"));
    let script = format!(
        "set -e; export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
         git init -q {work}; cd {work}; echo 1 > f; git add f; git commit -qm 1; git tag v1; echo 2 > f; git commit -qam 2
         git clone -q --bare {work} {bare}",
        work = work.display(),
        bare = bare.display()
    );
    let made = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    bare
}

#[tokio::test]
async fn a_repository_is_cloned_at_a_ref_and_the_folder_before_is_put_back() {
    let (_server, device, mut link) = linked().await;
    let (folder, repository) = (folder(&device), repository(&device));
    let app = folder.join("app");
    let clone = |at: &str, run: &str, then: &str| {
        let with = json!({"repository": repository, "ref": at, "device-path": folder});
        instruction(run, &json!([reverted(uses("clone", "connect/git", &with)), step("then", then)]), &json!({}))
    };
    link.instruct(&clone("v1", "dp-1a2b-3c4d.1", "true")).await;
    let told = link.until_over(0).await;
    assert_eq!(told.end(), (Succeeded, ""), "{told:?}");
    assert_eq!(fs::read_to_string(app.join("f")).unwrap(), "1\n");
    fs::write(app.join("own"), "mine").unwrap();
    link.instruct(&clone("HEAD", "dp-1a2b-3c4d.2", &format!("cat {}; exit 1", app.join("f").display()))).await;
    let told = link.until_over(0).await;
    assert_eq!((told.end(), told.steps()[1].stdout.as_str()), ((Failed, "step_failed"), "2\n"));
    assert_eq!(fs::read_to_string(app.join("f")).unwrap(), "1\n");
    assert_eq!(fs::read_to_string(app.join("own")).unwrap(), "mine");
    link.instruct(&clone("v9", "dp-1a2b-3c4d.3", "true")).await;
    assert_eq!(link.until_over(0).await.end(), (Failed, "step_failed"));
    assert_eq!(
        (fs::read_to_string(app.join("own")).unwrap(), listed(&folder)),
        ("mine".into(), vec!["app".to_owned()])
    );
}

#[tokio::test]
async fn a_clone_that_is_killed_begins_again() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    let (folder, repository, hooks) = (folder(&device), repository(&device), device.file("template/hooks"));
    fs::create_dir_all(&hooks).unwrap();
    let hook = format!("#!/bin/sh\ntouch {}; {}\n", device.file("cloning").display(), device.await_file("go"));
    fs::write(hooks.join("post-checkout"), hook).unwrap();
    fs::set_permissions(hooks.join("post-checkout"), fs::Permissions::from_mode(0o755)).unwrap();
    device.env = vec![("GIT_TEMPLATE_DIR", device.file("template"))];
    device.start();
    let mut link = server.welcome().await;
    let with = json!({"repository": repository, "device-path": folder});
    link.instruct(&instruction(RUN, &json!([uses("clone", "connect/git", &with)]), &json!({}))).await;
    link.meanwhile(until("git is in the middle", || device.file("cloning").exists())).await;
    let id = runner_of(&device.state().join("runs").join(RUN).join("step-0")).unwrap();
    device.kill();
    kill(pid(id), Signal::SIGKILL).unwrap();
    drop(link);
    // The git that was left behind waits on, in the folder that the next one makes anew.
    fs::remove_file(device.file("cloning")).unwrap();
    device.start();
    let mut link = server.welcome().await;
    link.meanwhile(until("git is there again", || device.file("cloning").exists())).await;
    device.touch("go");
    let told = link.until_over(0).await;
    assert_eq!(told.end(), (Succeeded, ""), "{told:?}");
    assert_eq!(
        (fs::read_to_string(folder.join("app/f")).unwrap(), listed(&folder)),
        ("2\n".into(), vec!["app".to_owned()])
    );
}

#[tokio::test]
async fn an_abort_ends_a_fetch_and_leaves_nothing() {
    let (_server, device, mut link) = linked().await;
    let folder = folder(&device);
    let shelf = Shelf::with(&text(300_000)).await;
    shelf.now(After::Silence(100_000));
    instruct_download(&mut link, &shelf, &json!([download(&folder, &json!({}))])).await;
    let part = folder.join(format!(".app.bin.muster-{RUN}-0"));
    link.meanwhile(until("a part is there", || fs::metadata(&part).is_ok_and(|part| part.len() == 100_000))).await;
    link.send(&muster_link::ToDevice::Abort { run: RUN.parse().unwrap() }).await;
    loop {
        let (run, seq, event) = link.report().await;
        link.ack(&run, seq).await;
        if let muster_core::target::RunEvent::Finished { outcome, reason } = event {
            assert_eq!((outcome, reason.code.as_str()), (muster_core::target::RunOutcome::Aborted, "aborted"));
            break;
        }
    }
    assert!(listed(&folder).is_empty());
}
