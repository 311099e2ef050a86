//! `connect/docker-compose`.
//!
//! Compose finds its containers by its labels, so those before cannot stand aside. The
//! way back is the file before, brought up again: with the images that it had then,
//! wherever their tags have gone since.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use muster_core::flow::actions::docker_compose::DockerCompose;
use muster_link::Artifact;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use super::docker::gate::{Gate, Verdict};
use super::docker::{AWAY_MAX, AWAY_UNDOING_MAX, LOOK_AGAIN_AFTER, check_undoing, keep_output, root};
use super::place::{Rights, beside, put};
use super::{FREE_BYTES_MIN, Plan, Work, check_folder, check_free};
use crate::files::{make_private_dir, private_file, read_json, write_json};
use crate::step::context::{Context, Failure};
use crate::step::engine::{Engine, Leave, encoded};
use crate::step::fetch::{fetch, size_of};
use crate::step::saved::{Saved, remove};

/// The names that compose looks for, the one that is made first.
const FILES: [&str; 4] = ["docker-compose.yml", "docker-compose.yaml", "compose.yaml", "compose.yml"];
/// Beside the compose file: what it finds in its environment, so that it can be brought up again.
const ENV_FILE: &str = ".muster-env.json";
/// How often what was is brought up again when the engine goes away meanwhile.
const UNDO_ATTEMPTS: u32 = 3;
/// Of compose's own labels: a container's project and service, and whether somebody ran it by hand.
const PROJECT_LABEL: &str = "com.docker.compose.project";
const SERVICE_LABEL: &str = "com.docker.compose.service";
const ONE_OFF_LABEL: &str = "com.docker.compose.oneoff";

type Env = BTreeMap<String, String>;

/// What the step wrote down before it changed anything: `compose.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    socket: PathBuf,
    folder: PathBuf,
    file: PathBuf,
    project: String,
    /// What the new file finds in its environment.
    env: Env,
    former: Vec<Former>,
    are_images_dropped: bool,
    is_changing: bool,
    is_undoing: bool,
}

/// A container of the project as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Former {
    service: String,
    /// What its file calls the image, and what that was.
    image: String,
    image_id: String,
    is_running: bool,
}

impl Work for DockerCompose {
    fn check(&self, cx: &Context) -> Result<Plan, Failure> {
        let (folder, leave) = (folder_of_project(self), || cx.check_time());
        check_folder(&folder)?;
        program(cx)?;
        let engine = Engine::reach(cx.docker_socket()?, AWAY_MAX, &leave)?;
        let root = root(&engine)?;
        if root.is_dir() {
            check_free(&root, FREE_BYTES_MIN)?;
        }
        let file = file_in(&folder);
        if !file.exists() && !containers(&engine, &project(self)?)?.is_empty() {
            let why =
                format!("the project runs already, and {} has no compose file to bring it back by", folder.display());
            return Err(Failure::because(why));
        }
        let update = self.compose.as_ref().map_or_else(|| size_of(cx), |text| text.as_str().len() as u64);
        Ok(Plan { paths: vec![file, folder.join(ENV_FILE)], update: Some((folder, update)) })
    }

    /// Pulls what the new file needs, and remembers what the one before had.
    fn stage(&self, cx: &Context) -> Result<(), Failure> {
        let leave = || cx.check_time();
        let engine = Engine::reach(cx.docker_socket()?, AWAY_MAX, &leave)?.patient(cx.spec.timeout());
        let record = Record {
            socket: cx.docker_socket()?,
            file: file_in(&folder_of_project(self)),
            folder: folder_of_project(self),
            project: project(self)?,
            env: self.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            former: former(&engine, &project(self)?)?,
            are_images_dropped: self.delete_previous_images.is_set(),
            is_changing: false,
            is_undoing: false,
        };
        // A killed runner may have pulled already, and so moved the tags.
        let earlier: Option<Record> = read_json(&record_file(cx.saved.path()))?;
        let former = earlier.map_or_else(|| record.former.clone(), |earlier| earlier.former);
        let record = Record { former, ..record };
        write_json(&record_file(cx.saved.path()), &record)?;
        let staged = staged(cx.saved.path());
        match &self.compose {
            Some(text) => private_file().truncate(true).open(&staged)?.write_all(text.as_str().as_bytes())?,
            None => fetch(cx, &staged, None)?,
        }
        let mut check = compose(cx, &record, &staged, &record.env)?;
        check.args(["config", "--quiet"]);
        cx.run(check)?;
        let mut pull = compose(cx, &record, &staged, &record.env)?;
        pull.args(["pull", "--quiet"]);
        log_in(cx, &mut pull)?;
        cx.run(pull)
    }

    fn change(&self, cx: &Context) -> Result<(), Failure> {
        let mut record = read(cx.saved.path())?;
        record.is_changing = true;
        write_json(&record_file(cx.saved.path()), &record)?;
        let beside = beside(cx, &record.file);
        fs::copy(staged(cx.saved.path()), &beside)?;
        put(&beside, &record.file, &Rights::of(&record.file, None, None)?)?;
        write_json(&record.folder.join(ENV_FILE), &record.env)?;
        up(cx, &record, &record.env)
    }

    fn verify(&self, cx: &Context) -> Result<(), Failure> {
        let (record, leave) = (read(cx.saved.path())?, || cx.check_time());
        let engine = Engine::reach(record.socket.clone(), cx.spec.timeout(), &leave)?;
        let gate = Gate::new(self.healthy_within_seconds.as_ref(), self.steady_seconds.as_ref());
        let began = Instant::now();
        while !are_up(cx, &engine, &gate, &record, began.elapsed())? {
            engine.pause(LOOK_AGAIN_AFTER)?;
        }
        cx.say(&format!("the project {} is up", record.project));
        Ok(())
    }

    fn undo(&self, cx: &Context, saved: &Saved) -> Result<(), Failure> {
        let Some(mut record) = read_json::<Record>(&record_file(saved.path()))? else { return Ok(()) };
        if !record.is_changing {
            return Ok(());
        }
        record.is_undoing = true;
        // On a full disk it is put back without a note of it.
        let _ = write_json(&record_file(saved.path()), &record);
        for _ in 1..UNDO_ATTEMPTS {
            match put_back(cx, &record, saved) {
                Err(failure) => cx.note(&format!("{}; trying again", failure.why)),
                Ok(()) => return Ok(()),
            }
        }
        put_back(cx, &record, saved)
    }

    fn tidy(&self, cx: &Context) {
        let _ = remove(&beside(cx, &file_in(&folder_of_project(self))));
        let _ = remove(&cx.scratch(LOGIN_FOLDER));
    }
}

fn folder_of_project(with: &DockerCompose) -> PathBuf {
    with.device_path.as_str().into()
}

/// The project's name: as given, or as compose makes it of the folder's.
fn project(with: &DockerCompose) -> Result<String, Failure> {
    if let Some(project) = &with.project {
        return Ok(project.as_str().to_owned());
    }
    let folder = folder_of_project(with);
    let name = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let kept: String = name.chars().filter(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-')).collect();
    match kept.trim_start_matches(['_', '-']) {
        "" => Err(Failure::because(format!("{} makes no name of a project", folder.display()))),
        kept => Ok(kept.to_owned()),
    }
}

/// The folder's compose file, or the one that will be.
fn file_in(folder: &Path) -> PathBuf {
    let found = FILES.iter().map(|name| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| folder.join(FILES[0]))
}

fn record_file(saved: &Path) -> PathBuf {
    saved.join("compose.json")
}

fn staged(saved: &Path) -> PathBuf {
    saved.join("compose.yml")
}

fn read(saved: &Path) -> Result<Record, Failure> {
    read_json(&record_file(saved))?.ok_or_else(|| Failure::because("what the step wrote down is gone"))
}

/// How compose is started on this device.
fn program(cx: &Context) -> Result<Command, Failure> {
    for words in [&["docker", "compose"][..], &["docker-compose"]] {
        let command = || {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).current_dir("/");
            command
        };
        let mut version = command();
        version.arg("version");
        if cx.ask(version).is_some() {
            return Ok(command());
        }
    }
    Err(Failure::because("the device has neither \"docker compose\" nor \"docker-compose\""))
}

/// Compose on the project by `file`, with `env` and nothing of the agent's own surroundings.
fn compose(cx: &Context, record: &Record, file: &Path, env: &Env) -> Result<Command, Failure> {
    let mut command = program(cx)?;
    for name in ["COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "COMPOSE_ENV_FILES"] {
        command.env_remove(name);
    }
    command.envs(env).env("DOCKER_HOST", format!("unix://{}", record.socket.display()));
    command.arg("--project-directory").arg(&record.folder).arg("--file").arg(file);
    command.args(["--project-name", &record.project]);
    Ok(command)
}

fn up(cx: &Context, record: &Record, env: &Env) -> Result<(), Failure> {
    let mut up = compose(cx, record, &record.file, env)?;
    up.args(["up", "--detach", "--remove-orphans"]);
    cx.run(up)
}

/// The project's containers, apart from those that somebody ran by hand.
fn containers(engine: &Engine<'_>, project: &str) -> Result<Vec<Value>, Failure> {
    let filters = json!({"label": [format!("{PROJECT_LABEL}={project}")]}).to_string();
    let listed: Vec<Value> = engine.get(&format!("/containers/json?all=true&filters={}", encoded(&filters)))?.json()?;
    Ok(listed.into_iter().filter(|found| found["Labels"][ONE_OFF_LABEL] != "True").collect())
}

fn former(engine: &Engine<'_>, project: &str) -> Result<Vec<Former>, Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let former = |listed: &Value| {
        let found: Value = engine.get(&format!("/containers/{}/json", text(&listed["Id"])))?.json()?;
        Ok(Former {
            service: text(&listed["Labels"][SERVICE_LABEL]),
            image: text(&found["Config"]["Image"]),
            image_id: text(&found["Image"]),
            is_running: found["State"]["Running"] == true,
        })
    };
    containers(engine, project)?.iter().map(former).collect()
}

fn are_up(cx: &Context, engine: &Engine<'_>, gate: &Gate, record: &Record, waited: Duration) -> Result<bool, Failure> {
    let mut are_up = true;
    for listed in containers(engine, &record.project)? {
        let id = listed["Id"].as_str().unwrap_or_default();
        let answer = engine.get(&format!("/containers/{id}/json"))?;
        if answer.status == 404 {
            continue;
        }
        let found: Value = answer.json()?;
        let restart = found["HostConfig"]["RestartPolicy"]["Name"].as_str().unwrap_or_default();
        match gate.judge(&found, waited, matches!(restart, "" | "no" | "on-failure")) {
            Verdict::Up => {}
            Verdict::NotYet => are_up = false,
            Verdict::Down(why) => {
                keep_output(cx, engine, id);
                let service = listed["Labels"][SERVICE_LABEL].as_str().unwrap_or_default();
                return Err(Failure::because(format!("service {service}: {why}")));
            }
        }
    }
    Ok(are_up)
}

/// Brings the project back as it was. Repeatable.
fn put_back(cx: &Context, record: &Record, saved: &Saved) -> Result<(), Failure> {
    let began = Instant::now();
    let leave = || check_undoing(began);
    let engine = Engine::reach(record.socket.clone(), AWAY_UNDOING_MAX, &leave)?;
    if record.former.is_empty() {
        let mut down = compose(cx, record, &staged(saved.path()), &record.env)?;
        down.args(["down", "--remove-orphans"]);
        cx.run(down)?;
        saved.restore()?;
        cx.say(&format!("the project {} is taken down", record.project));
        return Ok(());
    }
    saved.restore()?;
    record.former.iter().try_for_each(|former| put_tag_back(&engine, former))?;
    let env = read_json::<Env>(&record.folder.join(ENV_FILE))?.unwrap_or_default();
    up(cx, record, &env)?;
    for listed in containers(&engine, &record.project)? {
        let was_running = |former: &Former| listed["Labels"][SERVICE_LABEL] == *former.service && former.is_running;
        if !record.former.iter().any(was_running) {
            let id = listed["Id"].as_str().unwrap_or_default();
            engine.post(&format!("/containers/{id}/stop"), None)?.done()?;
        }
    }
    cx.say(&format!("the project {} is back", record.project));
    Ok(())
}

/// Lets the image's name mean again what it meant.
fn put_tag_back(engine: &Engine<'_>, former: &Former) -> Result<(), Failure> {
    if former.image.contains("sha256:") || former.image == former.image_id {
        return Ok(());
    }
    let found = engine.get(&format!("/images/{}/json", former.image))?;
    if found.status == 200 && found.json::<Value>()?["Id"] == *former.image_id {
        return Ok(());
    }
    let has_tag = former.image.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let (name, tag) = former.image.rsplit_once(':').filter(|_| has_tag).unwrap_or((&former.image, "latest"));
    let path = format!("/images/{}/tag?repo={}&tag={}", former.image_id, encoded(name), encoded(tag));
    engine.post(&path, None)?.done().map(drop)
}

const LOGIN_FOLDER: &str = "login";

/// Shows the credential of the step's registry to that registry, beside the device's own logins.
fn log_in(cx: &Context, command: &mut Command) -> Result<(), Failure> {
    let Some((host, auth)) = cx.artifact().and_then(login) else { return Ok(()) };
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    let own = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or(home);
    let mut config: Value = match own.map(|folder| read_json(&folder.join("config.json"))) {
        Some(Ok(Some(config))) => config,
        Some(Err(error)) if error.kind() != io::ErrorKind::InvalidData => return Err(error.into()),
        _ => json!({}),
    };
    config["auths"][&host] = json!({"auth": auth});
    if let Some(helpers) = config["credHelpers"].as_object_mut() {
        helpers.remove(&host);
    }
    // It would go before what stands here.
    config.as_object_mut().and_then(|config| config.remove("credsStore"));
    let folder = cx.scratch(LOGIN_FOLDER);
    make_private_dir(&folder)?;
    write_json(&folder.join("config.json"), &config)?;
    command.env("DOCKER_CONFIG", folder);
    Ok(())
}

/// The registry's host, and its user and password as Docker writes them down.
fn login(artifact: &Artifact) -> Option<(String, String)> {
    let (_, header) = artifact.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization"))?;
    let basic = header.expose().strip_prefix("Basic ")?;
    BASE64_STANDARD.decode(basic).ok()?;
    let url = Url::parse(&artifact.url).ok()?;
    let host = url.host_str()?;
    Some((url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")), basic.to_owned()))
}

/// The run is over: the images before are removed, where that was wanted.
pub(in crate::step) fn settle(saved: &Path, is_done: bool, leave: Leave<'_>) -> Result<(), Failure> {
    let Some(record) = read_json::<Record>(&record_file(saved))? else { return Ok(()) };
    if !is_done || record.is_undoing || !record.are_images_dropped {
        return Ok(());
    }
    let engine = Engine::reach(record.socket.clone(), Duration::ZERO, leave)?;
    let present = former(&engine, &record.project)?;
    for image in record.former.iter().map(|former| &former.image_id) {
        if present.iter().all(|present| present.image_id != *image) {
            // A container that still uses it keeps it.
            let _ = engine.delete(&format!("/images/{image}"));
        }
    }
    Ok(())
}

/// Whether `settle` has something to do with what is saved here.
pub(in crate::step) fn is_to_settle(saved: &Path) -> bool {
    matches!(read_json::<Record>(&record_file(saved)), Ok(Some(record)) if record.are_images_dropped && !record.is_undoing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(content: Value) -> DockerCompose {
        serde_json::from_value(content).unwrap()
    }

    #[test]
    fn a_project_is_named_as_compose_would() {
        let name = |folder: &str| project(&with(json!({"device-path": folder, "compose": "x"}))).ok();
        assert_eq!(name("/srv/My Shop.2/").as_deref(), Some("myshop2"));
        assert_eq!(name("/srv/_till-a").as_deref(), Some("till-a"));
        assert_eq!(name("/"), None);
        assert_eq!(project(&with(json!({"device-path": "/a", "compose": "x", "project": "p"}))).unwrap(), "p");
    }

    #[test]
    fn only_a_user_and_a_password_are_a_login() {
        let login = |url: &str, header: &str| {
            let headers = [("Authorization".to_owned(), muster_core::token::Secret::received(header))].into();
            login(&Artifact { url: url.to_owned(), headers, sha256: None, size_bytes: None })
        };
        let some = |host: &str| Some((host.to_owned(), "YTpi".to_owned()));
        assert_eq!(login("https://r.example.com/x/y.yml", "Basic YTpi"), some("r.example.com"));
        assert_eq!(login("http://127.0.0.1:5000", "Basic YTpi"), some("127.0.0.1:5000"));
        assert_eq!(login("https://r.example.com/x", "Bearer t"), None);
    }
}
