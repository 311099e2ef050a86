//! `muster admin agent-release`: signs releases of the agent. Needs neither a database nor
//! a server: best done on a machine that no server reaches.
//!
//! Keys and signatures are those of minisign: `minisign -G -W` makes such a pair too, and
//! `minisign -V` checks such a signature.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use blake2::{Blake2b512, Digest};
use clap::{Args, Subcommand};
use ed25519_dalek::{Signer, SigningKey};
use muster_core::release::{Manifest, RELEASE_BYTES_MAX, ReleaseVersion};
use muster_store::secure_rng;
use rand::RngExt;

/// Names the algorithm of a key, and of a signature over a hash.
const KEY_ALGORITHM: [u8; 2] = *b"Ed";
const HASHED_ALGORITHM: [u8; 2] = *b"ED";
/// No password; then minisign leaves the checksum, which would tell a wrong one, empty.
const NO_KDF: [u8; 2] = [0, 0];
const CHECKSUM_ALGORITHM: [u8; 2] = *b"B2";
const NO_CHECKSUM: [u8; 32] = [0; 32];
/// Salt and limits of a password's function, of no use without one.
const KDF_BYTES: usize = 32 + 8 + 8;
/// A whole secret key in its file.
const SECRET_BYTES: usize = 2 + 2 + 2 + KDF_BYTES + 8 + 64 + 32;

#[derive(Subcommand)]
pub(crate) enum AgentReleaseCommand {
    /// Make a pair of keys: the secret one signs, the public one goes onto the devices
    Keygen(KeygenArgs),
    /// Sign a program as a release, ready to be put into a repository
    Sign(SignArgs),
}

#[derive(Args)]
pub(crate) struct KeygenArgs {
    /// Where the secret key goes; keep it off the server
    #[arg(long, value_name = "FILE")]
    secret_key: PathBuf,
    /// Where the public key goes
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
}

#[derive(Args)]
pub(crate) struct SignArgs {
    /// The secret key
    #[arg(long, value_name = "FILE")]
    secret_key: PathBuf,
    /// Version of the program, as 1.2.3
    #[arg(long, value_name = "VERSION")]
    version: String,
    /// Processor that it is for: x86_64, aarch64, arm …
    #[arg(long, value_name = "ARCH")]
    arch: String,
    /// Where the release goes: the signature and the program behind it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The program, `muster-agent`
    program: PathBuf,
}

pub(crate) fn run(command: AgentReleaseCommand) -> anyhow::Result<()> {
    match command {
        AgentReleaseCommand::Keygen(args) => keygen(&args),
        AgentReleaseCommand::Sign(args) => sign(args),
    }
}

/// A key and the number by which signatures name it.
struct Key {
    number: [u8; 8],
    signing: SigningKey,
}

fn keygen(args: &KeygenArgs) -> anyhow::Result<()> {
    let mut rng = secure_rng();
    let key = Key { number: rng.random(), signing: SigningKey::from_bytes(&rng.random()) };
    let name = key.name();
    let public = [&KEY_ALGORITHM[..], &key.number, key.signing.verifying_key().as_bytes()].concat();
    create(&args.secret_key, 0o600, &[("minisign secret key", &key.to_file())])?;
    create(&args.public_key, 0o644, &[(&format!("minisign public key {name}"), &public)])?;
    say!("The public key {name} is in {}: put it onto the devices.", args.public_key.display());
    Ok(())
}

/// Never over a key that is there: what it signed would be worth nothing.
fn create(path: &Path, mode: u32, lines: &[(&str, &[u8])]) -> anyhow::Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.with_context(|| format!("cannot make {}", path.display()))?;
    for (comment, bytes) in lines {
        writeln!(file, "untrusted comment: {comment}\n{}", BASE64_STANDARD.encode(bytes))?;
    }
    Ok(file.sync_all()?)
}

fn sign(args: SignArgs) -> anyhow::Result<()> {
    let text = fs::read_to_string(&args.secret_key)
        .with_context(|| format!("cannot read the secret key {}", args.secret_key.display()))?;
    let key = Key::from_file(&text)?;
    let program =
        fs::read(&args.program).with_context(|| format!("cannot read the program {}", args.program.display()))?;
    let size_bytes = program.len() as u64;
    ensure!((1..=RELEASE_BYTES_MAX).contains(&size_bytes), "a release is 1 to {RELEASE_BYTES_MAX} bytes long");
    let is_arch = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    ensure!(!args.arch.is_empty() && args.arch.bytes().all(is_arch), "--arch: {:?} names no processor", args.arch);
    let version = ReleaseVersion::parse(args.version).context("--version")?;
    let manifest = Manifest { version, arch: args.arch, size_bytes };
    let release = [key.signature(&program, &manifest.to_string()).as_bytes(), &program].concat();
    fs::write(&args.out, release).with_context(|| format!("cannot write {}", args.out.display()))?;
    say!("{} is {manifest}, signed with {}", args.out.display(), key.name());
    Ok(())
}

impl Key {
    /// As minisign prints it.
    fn name(&self) -> String {
        format!("{:016X}", u64::from_le_bytes(self.number))
    }

    fn to_file(&self) -> Vec<u8> {
        let pair = self.signing.to_keypair_bytes();
        let kdf = [0; KDF_BYTES];
        [&KEY_ALGORITHM[..], &NO_KDF, &CHECKSUM_ALGORITHM, &kdf, &self.number, &pair, &NO_CHECKSUM].concat()
    }

    fn from_file(text: &str) -> anyhow::Result<Self> {
        let line = text.lines().nth(1).unwrap_or_default().trim();
        let bytes = BASE64_STANDARD.decode(line).ok().filter(|bytes| bytes.len() == SECRET_BYTES);
        let bytes =
            bytes.filter(|bytes| bytes[..2] == KEY_ALGORITHM).context("the file holds no secret key of minisign")?;
        if bytes[2..4] != NO_KDF {
            bail!("the secret key has a password: sign with minisign itself, as the manual of the agent says");
        }
        let rest = &bytes[6 + KDF_BYTES..];
        let (number, pair) = (rest[..8].try_into()?, rest[8..72].try_into()?);
        let signing = SigningKey::from_keypair_bytes(&pair).context("the secret key is damaged")?;
        Ok(Self { number, signing })
    }

    /// The four lines of a signature over the hash of `content` and over the comment.
    fn signature(&self, content: &[u8], comment: &str) -> String {
        let signature = self.signing.sign(&Blake2b512::digest(content)).to_bytes();
        let global = self.signing.sign(&[&signature[..], comment.as_bytes()].concat()).to_bytes();
        let named = [&HASHED_ALGORITHM[..], &self.number, &signature].concat();
        let (named, global) = (BASE64_STANDARD.encode(named), BASE64_STANDARD.encode(global));
        format!("untrusted comment: release of muster-agent\n{named}\ntrusted comment: {comment}\n{global}\n")
    }
}
