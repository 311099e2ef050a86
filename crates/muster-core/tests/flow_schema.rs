//! The parser and the schema of the flow language must agree on every document.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say why")]

use muster_core::flow::{schema, yaml};
use serde_json::Value;

/// Steps that are right.
const GOOD: &[&str] = &[
    "{name: a, run: 'true'}",
    "{name: a, run: 'true', timeout-minutes: 0.5}",
    "{name: a, run: x, on-failure: {ignore: true}}",
    "{name: a, run: x, on-failure: {run: undo, trigger-revert: any-step-failure, revert-all-files: true}}",
    "{name: a, uses: connect/script, with: {script: 'echo', args: [a], env: {A_1: b}, changes: [/etc/x]}}",
    "{name: a, uses: connect/script, with: {registry: r, artifactory-path: a/b.py, interpreter: python3, working-directory: /srv}}",
    "{name: a, uses: connect/file, with: {device-path: /etc/x, content: ''}}",
    "{name: a, uses: connect/file, with: {device-path: '${{ inputs.x }}', content: a, mode: '0640', owner: 'root:adm'}}",
    "{name: a, uses: connect/file, with: {device-path: /etc/x, registry: r, artifactory-path: p, on-failure: {revert-all-files: true}}}",
    "{name: a, uses: connect/download-artifact, with: {registry: r, artifactory-path: p, device-path: /tmp, max-kilobytes-per-second: 500}}",
    "{name: a, uses: connect/download-artifact, with: {registry: r, artifactory-path: p, device-path: /a/..b, max-kilobytes-per-second: '${{inputs.x}}'}}",
    "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: t}}",
    "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: t, run-options: {restart: always, attach: 'true'}, command: echo, delete-previous-image: false}}",
    "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: t, rollback-configuration: {restart-previous-container: true}}}",
    "{name: a, uses: connect/docker, with: {registry: r, image-path: 'h:5000/a/b_c', image-tag: v1, command: [echo, 'a b'], healthy-within-seconds: 9, steady-seconds: '1', run-options: {name: till, env: {A: b}, ports: ['8080:80', '127.0.0.1:53:53/udp'], volumes: ['/srv:/data:ro', 'v:/v'], tmpfs: [/tmp], network: host, hostname: h, add-host: ['db:10.0.0.1'], user: '1:2', workdir: /w, entrypoint: sh -c, labels: {a: b}, devices: ['/dev/a:/dev/b:rw'], cap-add: [NET_ADMIN], cap-drop: [ALL], privileged: false, read-only: true, init: true, memory: 64m, shm-size: 1k, cpus: 1.5, pids-limit: 9, log-driver: local, log-opt: {max-size: 1m}, stop-timeout: 3, health-cmd: 'true', health-interval-seconds: 1, health-timeout-seconds: 1, health-retries: 3, health-start-period-seconds: 1}}}",
    "{name: a, uses: connect/docker-compose, with: {device-path: /srv/app, compose: 'services: {}', registry: r}}",
    "{name: a, uses: connect/docker-compose, with: {device-path: /srv/app, registry: r, artifactory-path: p, steady-seconds: 3}}",
    "{name: a, uses: connect/docker-compose, with: {device-path: /srv/app, compose: 'services: {}', project: p, env: {A: b}}}",
    "{name: a, uses: connect/git, with: {repository: 'https://git.example/x.git', ref: v1.0/x, device-path: /srv, registry: r}}",
    "{name: a, uses: connect/debian-package, with: {package: nginx, version: '1:2.0~rc1-1'}}",
    "{name: a, uses: connect/debian-package, with: {device-path: /tmp/a.deb}}",
    "{name: a, uses: connect/debian-package, with: {registry: r, artifactory-path: a.deb}}",
];

/// Steps that are wrong, and the place that a refusal names.
const BAD: &[(&str, &str)] = &[
    ("{run: x}", "missing field `name`"),
    ("{name: a}", "steps[0]: "),
    ("{name: '', run: x}", "steps[0].name: "),
    ("{name: a, run: ' '}", "steps[0].run: "),
    ("{name: a, run: x, with: {}}", "steps[0].with: "),
    ("{name: a, run: x, uses: connect/git, with: {repository: x, device-path: /a}}", "steps[0].uses: "),
    ("{name: a, run: x, timeout-minutes: 0}", "steps[0].timeout-minutes: "),
    ("{name: a, run: x, timeout-minutes: 1000000}", "steps[0].timeout-minutes: "),
    ("{name: a, run: x, on-failure: {trigger-revert: never}}", "never"),
    ("{name: a, run: x, on-failure: {revert-files: true}}", "revert-files"),
    ("{name: a, uses: connect/nothing, with: {}}", "steps[0].uses: "),
    ("{name: a, uses: connect/file}", "steps[0].with"),
    ("{name: a, uses: connect/file, with: {device-path: etc/x, content: a}}", "steps[0].with.device-path: "),
    ("{name: a, uses: connect/file, with: {device-path: /etc/../x, content: a}}", "steps[0].with.device-path: "),
    ("{name: a, uses: connect/file, with: {device-path: /x}}", "steps[0].with: "),
    (
        "{name: a, uses: connect/file, with: {device-path: /x, content: a, registry: r, artifactory-path: b}}",
        "steps[0].with: ",
    ),
    ("{name: a, uses: connect/file, with: {device-path: /x, artifactory-path: b}}", "steps[0].with.artifactory-path: "),
    ("{name: a, uses: connect/file, with: {device-path: /x, content: a, mode: 644}}", "steps[0].with.mode: "),
    ("{name: a, uses: connect/file, with: {device-path: /x, content: a, mode: '0888'}}", "steps[0].with.mode: "),
    ("{name: a, uses: connect/file, with: {device-path: /x, content: a, owner: 'a b'}}", "steps[0].with.owner: "),
    ("{name: a, uses: connect/file, with: {device-path: /x, content: a, moed: '0644'}}", "steps[0].with"),
    ("{name: a, uses: connect/script, with: {script: x, env: {1A: b}}}", "steps[0].with.env: "),
    ("{name: a, uses: connect/script, with: {script: x, args: [1]}}", "steps[0].with.args[0]: "),
    ("{name: a, uses: connect/script, with: {script: x, changes: [relative]}}", "steps[0].with.changes[0]: "),
    (
        "{name: a, uses: connect/script, with: {script: x, rollback-configuration: {restart-previous-container: true}}}",
        "steps[0].with.rollback-configuration: ",
    ),
    ("{name: a, uses: connect/download-artifact, with: {registry: r, device-path: /tmp}}", "steps[0].with"),
    (
        "{name: a, uses: connect/download-artifact, with: {registry: r, artifactory-path: p, device-path: /tmp, max-kilobytes-per-second: 0}}",
        "steps[0].with.max-kilobytes-per-second: ",
    ),
    (
        "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: 1.1}}",
        "steps[0].with.image-tag: ",
    ),
    (
        "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: t, run-options: {attach: maybe}}}",
        "steps[0].with.run-options.attach: ",
    ),
    (
        "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: t, run-options: {restart: sometimes}}}",
        "steps[0].with.run-options.restart: ",
    ),
    (
        "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: t, run-options: {ports: [80:http]}}}",
        "steps[0].with.run-options.ports[0]: ",
    ),
    (
        "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: t, run-options: {volumes: [data]}}}",
        "steps[0].with.run-options.volumes[0]: ",
    ),
    (
        "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: t, run-options: {memory: much}}}",
        "steps[0].with.run-options.memory: ",
    ),
    (
        "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: t, run-options: {cpus: 0}}}",
        "steps[0].with.run-options.cpus: ",
    ),
    (
        "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: t, run-options: {labels: {muster.run: x}}}}",
        "steps[0].with.run-options.labels: ",
    ),
    (
        "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: t, run-options: {env: {'A=B': x}}}}",
        "steps[0].with.run-options.env: ",
    ),
    (
        "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: t, run-options: {log-opt: {a: b}}}}",
        "steps[0].with.run-options.log-opt: ",
    ),
    (
        "{name: a, uses: connect/docker, with: {registry: r, image-path: p, image-tag: t, command: []}}",
        "steps[0].with.command: ",
    ),
    (
        "{name: a, uses: connect/docker, with: {registry: r, image-path: 'A B', image-tag: t}}",
        "steps[0].with.image-path: ",
    ),
    ("{name: a, uses: connect/docker-compose, with: {device-path: /srv}}", "steps[0].with: "),
    (
        "{name: a, uses: connect/docker-compose, with: {device-path: /srv, compose: x, project: Shop}}",
        "steps[0].with.project: ",
    ),
    ("{name: a, uses: connect/git, with: {repository: x, device-path: /srv, ref: a..b}}", "steps[0].with.ref: "),
    ("{name: a, uses: connect/git, with: {repository: x, device-path: /srv, ref: -x}}", "steps[0].with.ref: "),
    ("{name: a, uses: connect/debian-package, with: {package: Nginx}}", "steps[0].with.package: "),
    ("{name: a, uses: connect/debian-package, with: {version: '1'}}", "steps[0].with"),
    ("{name: a, uses: connect/debian-package, with: {device-path: /a.deb, version: '1'}}", "steps[0].with.version: "),
    ("{name: a, uses: connect/debian-package, with: {package: nginx, device-path: /a.deb}}", "steps[0].with: "),
];

/// Whole documents that are wrong.
const BAD_DOCUMENTS: &[&str] = &[
    "{}",
    "flows: {}",
    "flows: []",
    "flows: {f: {steps: []}}",
    "flows: {f: {step: []}}",
    "{flows: {f: {steps: [{name: a, run: x}]}}, of: {}}",
    "{flows: {f: {steps: [{name: a, run: x}], on-failure: {}}}}",
    "{flows: {f: {steps: [{name: a, run: x}], reboot-after-restart: soon}}}",
];

fn with_step(step: &str) -> String {
    let inputs = "{workflow-dispatch: {inputs: {x: {default: d, description: z}, w: }}}";
    format!("flows:\n  f:\n    on: {inputs}\n    steps:\n      - {step}\n")
}

fn as_json(document: &str) -> Value {
    serde_saphyr::from_str(document).unwrap()
}

#[test]
fn parser_and_schema_agree() {
    let schema = jsonschema::draft202012::new(&schema::document()).unwrap();
    for step in GOOD {
        let document = with_step(step);
        yaml::parse(&document).unwrap_or_else(|refusal| panic!("{step}: {refusal}"));
        if let Err(error) = schema.validate(&as_json(&document)) {
            panic!("the schema refuses {step}: {error}");
        }
    }
    for (step, place) in BAD {
        let document = with_step(step);
        let refusal = yaml::parse(&document).unwrap_err().to_string();
        assert!(refusal.contains(place) && refusal.contains("line 5, column "), "{step} gave {refusal}");
        assert!(!schema.is_valid(&as_json(&document)), "the schema takes {step}");
    }
    for document in BAD_DOCUMENTS {
        assert!(yaml::parse(document).is_err(), "{document}");
        assert!(!schema.is_valid(&as_json(document)), "the schema takes {document}");
    }
}

#[test]
fn a_refusal_names_the_line_of_the_key_at_fault() {
    let document = "flows:\n  f.g:\n    steps:\n      - name: a\n        uses: connect/file\n        with:\n          content: x\n          device-path: y\n";
    let refusal = yaml::parse(document).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "flows.f.g.steps[0].with.device-path: \"y\" is not an absolute path without \"..\" at line 8, column 11"
    );
}

#[test]
fn the_examples_of_the_manual_are_flows() {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/flows.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let examples: Vec<&str> = manual.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 4);
    let schema = jsonschema::draft202012::new(&schema::document()).unwrap();
    for example in examples {
        yaml::parse(example).unwrap_or_else(|refusal| panic!("{example}\n{refusal}"));
        assert!(schema.is_valid(&as_json(example)), "{example}");
    }
}
