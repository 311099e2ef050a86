//! A terminal on the device, as a browser opens it.

use anyhow::{Context, bail, ensure};
use muster_link::stream::{Carrier, Exit, Side, StreamMessage, Talk, TerminalSize, Turn};
use reqwest::{Method, StatusCode, Upgraded};

use crate::pair::Pair;

/// What the shell puts out, in bytes; ends of lines come on top.
const OUTPUT_BYTES: usize = 1_000_000;
/// With what it ends.
const EXIT_CODE: i32 = 7;
/// Its size, after it had another one.
const SIZE: TerminalSize = TerminalSize { columns: 132, rows: 50 };
/// The key of a handshake, from its standard: nobody is to be convinced here that it is random.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Opens a terminal, lets it put out much, gives it another size, and ends its shell.
pub(super) async fn use_terminal(pair: &Pair, device: &str) -> anyhow::Result<()> {
    let call = pair.call(Method::GET, &format!("devices/{device}/terminal?columns=80&rows=24"))?;
    let call = call.header("connection", "upgrade").header("upgrade", "websocket");
    let answer = call.header("sec-websocket-version", "13").header("sec-websocket-key", KEY).send().await?;
    ensure!(answer.status() == StatusCode::SWITCHING_PROTOCOLS, "a terminal: {}", answer.text().await?);
    // Masks need not be secret from oneself.
    let mut talk = Talk::new(Carrier::new(answer.upgrade().await?, Side::Client, 1));
    talk.say(&StreamMessage::Resize(SIZE))?;
    let script = format!("yes 0123456789 | head -c {OUTPUT_BYTES}; stty size; exit {EXIT_CODE}\n");
    talk.say_bytes(script.into_bytes())?;
    let (shown, exit) = until_its_end(&mut talk).await.context("a terminal")?;
    ensure!(exit.code == Some(EXIT_CODE), "a terminal's shell ended with {exit:?}");
    ensure!(shown.len() >= OUTPUT_BYTES, "a terminal showed {} of {OUTPUT_BYTES} bytes", shown.len());
    let last = String::from_utf8_lossy(&shown[shown.len().saturating_sub(200)..]);
    let size = format!("{} {}", SIZE.rows, SIZE.columns);
    ensure!(last.contains(&size), "a terminal of another size than {size}: {last}");
    Ok(())
}

async fn until_its_end(talk: &mut Talk<Upgraded>) -> anyhow::Result<(Vec<u8>, Exit)> {
    let mut shown = Vec::new();
    loop {
        match talk.turn(true).await? {
            Turn::Data(bytes) => shown.extend(bytes),
            Turn::Message(StreamMessage::Exited(exit)) => return Ok((shown, exit)),
            Turn::Message(StreamMessage::Failed { reason }) => bail!("{reason}"),
            Turn::Message(_) | Turn::Sent => {}
        }
    }
}
