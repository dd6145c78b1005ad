//! The two ways out: mail by SMTP, and a signed call by HTTP.

use std::time::Duration;

use hmac::{Hmac, Mac as _};
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use phusa_protocol::fault::Fault;
use sha2::Sha256;

use super::unreachable;

/// How long a server may take.
pub(crate) const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// How the line to a mail server is kept from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secured {
    /// TLS from the first byte.
    Wrapped,
    /// TLS after `STARTTLS`, which must be there.
    StartTls,
    /// Not at all: on an internal network whose file says so.
    Plain,
}

/// A mail server and who writes.
#[derive(Clone)]
pub struct Mailer {
    /// The server as the file names it.
    pub to: String,
    /// Who writes.
    pub from: String,
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailer").field("to", &self.to).field("from", &self.from).finish()
    }
}

/// A mail of plain text.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The same each time this is told, so that a repetition is known for one.
    pub id: String,
    /// Addresses.
    pub to: Vec<String>,
    /// One line.
    pub subject: String,
    /// What it says.
    pub body: String,
}

impl Mailer {
    /// A way to a server; nothing is opened yet. `login` is name and password.
    ///
    /// # Errors
    /// What is wrong with the certificates or the sender's address.
    pub fn new(
        (host, port, secured): (&str, u16, Secured),
        from: &str,
        login: Option<(String, String)>,
        ca_pem: Option<&[u8]>,
    ) -> Result<Self, String> {
        let said = |error: lettre::transport::smtp::Error| error.to_string();
        from.parse::<lettre::message::Mailbox>().map_err(|error| error.to_string())?;
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(port)
            .timeout(Some(ANSWERS_WITHIN));
        if secured != Secured::Plain {
            let pem = ca_pem.ok_or("no certificates to trust")?;
            let parameters = TlsParameters::builder(host.to_owned())
                .certificate_store(CertificateStore::None)
                .add_root_certificate(Certificate::from_pem(pem).map_err(said)?)
                .build()
                .map_err(said)?;
            builder = builder.tls(match secured {
                Secured::Wrapped => Tls::Wrapper(parameters),
                Secured::StartTls | Secured::Plain => Tls::Required(parameters),
            });
        }
        if let Some((name, password)) = login {
            builder = builder.credentials(Credentials::new(name, password));
        }
        Ok(Self { to: format!("{host}:{port}"), from: from.to_owned(), transport: builder.build() })
    }

    /// Hands a mail over; the server has taken it when this returns.
    ///
    /// # Errors
    /// `escalation_unreachable` when it has not.
    pub async fn send(&self, mail: &Mail) -> Result<(), Fault> {
        let what = || format!("mail {} by {}", mail.id, self.to);
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| unreachable(what(), error);
        let host = self.from.rsplit('@').next().unwrap_or("phusa");
        let from = self.from.parse().map_err(|error| failed(Box::new(error)))?;
        let mut builder = Message::builder()
            .from(from)
            .message_id(Some(format!("<{}@{}>", mail.id, host.trim_end_matches('>'))))
            .subject(mail.subject.clone())
            .header(ContentType::TEXT_PLAIN);
        for address in &mail.to {
            builder = builder.to(address.parse().map_err(|error| failed(Box::new(error)))?);
        }
        let message = builder.body(mail.body.clone()).map_err(|error| failed(Box::new(error)))?;
        self.transport.send(message).await.map(drop).map_err(|error| failed(Box::new(error)))
    }
}

/// An address that is called.
#[derive(Clone)]
pub struct Webhook {
    /// Where.
    pub url: String,
    key: Vec<u8>,
    client: reqwest::Client,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Webhook {
    /// An address that is called with this client, its calls signed with this key.
    #[must_use]
    pub fn new(url: String, key: Vec<u8>, client: reqwest::Client) -> Self {
        Self { url, key, client }
    }

    /// Calls; whoever is called has taken it when this returns. The header `X-Phusa-Signature` is
    /// `sha256=` and HMAC-SHA-256 over the time of `X-Phusa-Time`, a full stop, and the body.
    ///
    /// # Errors
    /// `escalation_unreachable` when it has not.
    pub async fn call(&self, id: &str, body: String, time: i64) -> Result<(), Fault> {
        let signature = signature(&self.key, time, &body);
        let asked = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("x-phusa-delivery", id)
            .header("x-phusa-time", time)
            .header("x-phusa-signature", format!("sha256={signature}"))
            .body(body);
        let answer = asked.send().await.and_then(reqwest::Response::error_for_status);
        // The address may hold a secret of the one who is called, so it is not said.
        answer
            .map(drop)
            .map_err(|error| unreachable(format!("webhook, delivery {id}"), error.without_url()))
    }
}

/// HMAC-SHA-256 in hexadecimal digits.
fn signature(key: &[u8], time: i64, body: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(format!("{time}.{body}").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_signed_over_its_time_and_body() {
        // printf '7.{}' | openssl dgst -sha256 -hmac bi-mat
        let expected = "52a305d2e98a3fa2fc3d92681e00b215c4cd195985707fb9004698f101bfad00";
        assert_eq!(signature(b"bi-mat", 7, "{}"), expected);
    }
}
