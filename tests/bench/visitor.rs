//! A person at the hub's pages: takes an invitation, signs in, and times what is shown.

use std::time::{Duration, Instant};

use phusa_hub::accounts::totp;
use phusa_protocol::time::Timestamp;

use crate::lab::Outcome;

/// Good for the minutes that a fleet of the benchmark lives.
const PASSWORD: &str = "benchmark-of-a-fleet";

/// How the account is called.
pub(crate) const NAME: &str = "mo-phong";

/// A browser without JavaScript that is signed in.
pub(crate) struct Visitor {
    base: String,
    client: reqwest::Client,
    cookie: String,
}

impl Visitor {
    /// Takes the invitation that is among the words of `said`, at the portal of this address whose
    /// certificate `ca_pem` vouches for.
    pub(crate) async fn sign_in(base: String, ca_pem: &[u8], said: &str) -> Outcome<Self> {
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(ca_pem)?])
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let mut visitor = Self { base, client, cookie: String::new() };
        let is_one = |word: &&str| word.len() == 39 && word.matches('-').count() == 7;
        let invitation = said.split_whitespace().find(is_one).ok_or("no invitation")?;
        let invited = format!("name={NAME}&invitation={invitation}");
        let shown = visitor.post("/invitation", invited.clone()).await?.text().await?;
        let secret = shown.split_once("<code>").and_then(|(_, rest)| rest.split_once("</code>"));
        let secret =
            secret.and_then(|(text, _)| totp::from_base32(text)).ok_or("no secret is shown")?;
        let code = totp::code_at(&secret, now());
        let password = format!("password={PASSWORD}&again={PASSWORD}");
        visitor.post("/invitation", format!("{invited}&step=2&{password}&code={code}")).await?;
        // A code is good once; the next one is good already.
        let code = totp::code_at(&secret, now() + 30);
        let login = format!("name={NAME}&password={PASSWORD}&code={code}");
        let answer = visitor.post("/login", login).await?;
        let cookie = answer.headers().get("set-cookie").ok_or("not signed in")?.to_str()?;
        cookie.split(';').next().unwrap_or_default().clone_into(&mut visitor.cookie);
        Ok(visitor)
    }

    /// How long the hub takes to show a page, to its last byte, and that last byte's place.
    pub(crate) async fn time(&self, path: &str) -> Outcome<(Duration, usize)> {
        let began = Instant::now();
        let request = self.client.get(format!("{}{path}", self.base));
        let answer = request.header("cookie", &self.cookie).send().await?;
        if answer.status() != 200 {
            return Err(format!("{path}: {}", answer.status()).into());
        }
        let bytes = answer.bytes().await?.len();
        Ok((began.elapsed(), bytes))
    }

    async fn post(&self, path: &str, form: String) -> Outcome<reqwest::Response> {
        let request = self.client.post(format!("{}{path}", self.base)).body(form);
        Ok(request.header("origin", &self.base).send().await?)
    }
}

fn now() -> u64 {
    Timestamp::now().micros().unsigned_abs() / 1_000_000
}
