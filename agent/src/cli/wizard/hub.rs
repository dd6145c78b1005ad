//! Who the agent is and where the hub is: the keys the province handed over, the hub's address, the
//! networks it may lie in.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use phusa_protocol::ids::AgentId;
use phusa_protocol::network::Network;

use super::screen::{Asked, NoAnswer, Question, Screen};
use crate::config::plan::address::HubAddress;
use crate::transport::identity::agent_of;

/// What the province hands over; `phusa-hub dev-certs` makes them.
const FILES: [&str; 6] =
    ["ca.pem", "agent.pem", "agent.key", "signing.key", "spool.key", "hub.pub"];

/// What is known of both sides.
#[derive(Debug, Clone)]
pub(super) struct Sides {
    pub(super) agent: AgentId,
    /// Where the files of [`FILES`] are.
    pub(super) keys: PathBuf,
    /// `https://…`.
    pub(super) url: String,
    pub(super) networks: Vec<String>,
}

/// Asks for both sides.
pub(super) fn ask(screen: &mut Screen, folder: &Path) -> Asked<Sides> {
    let (keys, agent) = ask_keys(screen, folder)?;
    screen.say(&format!("Tác tử: {agent}"), &format!("Agent: {agent}"));
    let question = Question::new(
        "hub",
        "Địa chỉ trung tâm, ví dụ 10.1.2.3:7443",
        "The hub's address, such as 10.1.2.3:7443",
    );
    let address = screen.ask(&question, address)?;
    let default = usual_network(&address);
    let question = Question::new(
        "networks",
        "Mạng mà trung tâm phải nằm trong (CT-22), cách nhau bằng dấu cách",
        "Networks the hub must lie in (CT-22), between blanks",
    );
    let question = match default {
        Some(default) => question.or(default),
        None => question,
    };
    let networks = screen.ask(&question, |text| networks(text, &address))?;
    Ok(Sides { agent, keys, url: url(&address), networks })
}

fn ask_keys(screen: &mut Screen, folder: &Path) -> Asked<(PathBuf, AgentId)> {
    screen.say(
        "Tỉnh đã giao một thư mục gồm: ca.pem agent.pem agent.key signing.key spool.key hub.pub.",
        "The province gave you a folder with: ca.pem agent.pem agent.key signing.key spool.key \
         hub.pub.",
    );
    let question = Question::new("keys", "Thư mục đó", "That folder");
    let question = if folder.join("agent.pem").exists() { question.or(".") } else { question };
    screen.ask(&question, |text| {
        let keys = folder.join(text);
        let lacking: Vec<&str> =
            FILES.into_iter().filter(|name| !keys.join(name).is_file()).collect();
        if !lacking.is_empty() {
            let (at, lacking) = (keys.display(), lacking.join(", "));
            return Err((
                format!("{at} không có {lacking}; xin lại từ tỉnh"),
                format!("{at} has no {lacking}; ask the province again"),
            ));
        }
        let agent = agent_of(&keys.join("agent.pem")).map_err(|fault| {
            let why = fault.chain();
            (
                format!("chứng thư không dùng được: {why}"),
                format!("the certificate is no use: {why}"),
            )
        })?;
        // Programs run elsewhere, so the place must not depend on where they are.
        let keys = keys.canonicalize().unwrap_or(keys);
        Ok((keys, agent))
    })
}

fn address(text: &str) -> Result<HubAddress, NoAnswer> {
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    text.parse::<HubAddress>().map_err(|bad| {
        (format!("không phải địa chỉ của trung tâm: {bad}"), format!("no address of a hub: {bad}"))
    })
}

fn url(address: &HubAddress) -> String {
    let host = address.host();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    format!("https://{host}:{}", address.port())
}

/// The private network that an address is of, or the address alone.
fn usual_network(address: &HubAddress) -> Option<String> {
    let address = address.address()?;
    let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8"];
    let within =
        |text: &&str| text.parse::<Network>().is_ok_and(|network| network.contains(address));
    let bits = if matches!(address, IpAddr::V4(_)) { 32 } else { 128 };
    let known = private.into_iter().find(within).map(str::to_owned);
    known.or_else(|| Some(format!("{address}/{bits}")))
}

fn networks(text: &str, address: &HubAddress) -> Result<Vec<String>, NoAnswer> {
    let texts: Vec<&str> = text.split([' ', ',']).filter(|part| !part.is_empty()).collect();
    let mut networks = Vec::new();
    for text in &texts {
        networks.push(text.parse::<Network>().map_err(|bad| {
            (format!("{text}: không phải mạng ({bad})"), format!("{text}: no network ({bad})"))
        })?);
    }
    let outside = |address: IpAddr| !networks.iter().any(|network| network.contains(address));
    if networks.is_empty() || address.address().is_some_and(outside) {
        let host = address.host();
        return Err((
            format!("trung tâm {host} không nằm trong mạng nào đã ghi"),
            format!("the hub {host} lies in none of these networks"),
        ));
    }
    Ok(texts.into_iter().map(str::to_owned).collect())
}
