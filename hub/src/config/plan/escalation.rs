//! `[escalation]`, checked.

use rustls::RootCertStore;

use super::super::EscalationFile;
use super::{Check, outward};
use crate::escalation::Terms;
use crate::escalation::send::{ANSWERS_WITHIN, Mailer, Secured, Webhook};

/// Addresses at the province.
const PROVINCE_MAX: usize = 20;

impl Check<'_> {
    /// The part; when something is missing from it, at least one fault was collected.
    pub(super) fn escalation(&mut self, part: &EscalationFile) -> Option<Terms> {
        let at = part.province.span().start;
        let province = part.province.get_ref().clone();
        let is_address = |text: &String| text.parse::<lettre::message::Mailbox>().is_ok();
        if province.is_empty() || province.len() > PROVINCE_MAX || !province.iter().all(is_address)
        {
            self.wrong(at, "`province` names 1 to 20 addresses of mail");
        }
        let steps = [&part.focal_after, &part.head_after, &part.province_after];
        let after = steps.map(|span| span.get_ref().0);
        if !after.is_sorted() {
            let at = part.head_after.span().start;
            self.wrong(at, "`focal_after`, `head_after` and `province_after` follow each other");
        }
        let ca = match &part.tls_ca_file {
            Some(file) => Some(self.secret("tls_ca_file of [escalation]", file)?),
            None => None,
        };
        if part.smtp.is_none() && part.webhook.is_none() {
            self.wrong(at, "[escalation] needs `smtp`, `webhook` or both");
        }
        let mail = match &part.smtp {
            Some(_) => Some(self.mailer(part, ca.as_deref())?),
            None => None,
        };
        let webhook = match &part.webhook {
            Some(_) => Some(self.webhook(part, ca.as_deref())?),
            None => None,
        };
        let portal = part.portal_url.clone().unwrap_or_default();
        Some(Terms { mail, webhook, province, after, portal })
    }

    fn mailer(&mut self, part: &EscalationFile, ca: Option<&[u8]>) -> Option<Mailer> {
        let smtp = part.smtp.as_ref()?;
        let at = smtp.span().start;
        let server = smtp.get_ref().split_once("://").and_then(|(scheme, rest)| {
            let secured = match scheme {
                "smtps" => Secured::Wrapped,
                "smtp+starttls" => Secured::StartTls,
                "smtp" => Secured::Plain,
                _ => return None,
            };
            let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
            Some((host, port.parse().ok()?, secured))
        });
        let Some(server) = server else {
            let why = "`smtp` is none of \"smtps://host:465\", \"smtp+starttls://host:587\", \
                       \"smtp://host:25\"";
            self.wrong(at, why);
            return None;
        };
        if server.2 == Secured::Plain && !part.plain {
            self.wrong(at, "`smtp://` is not encrypted: on an internal network say `plain = true`");
        }
        if server.2 != Secured::Plain && ca.is_none() {
            self.wrong(
                at,
                "TLS needs `tls_ca_file`: what the mail server's certificate descends from",
            );
            return None;
        }
        let login = match (&part.smtp_user, &part.smtp_password_file) {
            (Some(user), Some(file)) => {
                let bytes = self.private("smtp_password_file", file)?;
                Some((user.clone(), String::from_utf8_lossy(&bytes).trim_end().to_owned()))
            }
            (None, None) => None,
            _ => {
                self.wrong(at, "`smtp_user` and `smtp_password_file` belong together");
                return None;
            }
        };
        let Some(from) = &part.from else {
            self.wrong(at, "`smtp` needs `from`: the address that writes");
            return None;
        };
        let made = Mailer::new(server, from, login, ca);
        made.map_err(|why| self.wrong(at, &format!("mail cannot be sent so: {why}"))).ok()
    }

    fn webhook(&mut self, part: &EscalationFile, ca: Option<&[u8]>) -> Option<Webhook> {
        let url = part.webhook.as_ref()?;
        let (text, at) = (url.get_ref(), url.span().start);
        let secure = text.starts_with("https://");
        let plain = text.starts_with("http://") && part.plain;
        if !(secure || plain) {
            self.wrong(
                at,
                "`webhook` is https://, or http:// with `plain = true` on an internal network",
            );
        }
        let Some(file) = &part.webhook_key_file else {
            self.wrong(at, "`webhook` needs `webhook_key_file`: what its calls are signed with");
            return None;
        };
        let key = self.private("webhook_key_file", file)?;
        let mut roots = RootCertStore::empty();
        if secure {
            match outward::roots(ca.unwrap_or_default()) {
                Some(named) => roots = named,
                None => self.wrong(at, "https:// needs `tls_ca_file` with certificates in PEM"),
            }
        }
        let Some(client) = outward::client(roots, ANSWERS_WITHIN) else {
            self.wrong(at, "`webhook` cannot be used");
            return None;
        };
        let key = key.trim_ascii_end().to_vec();
        Some(Webhook::new(text.clone(), key, client))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// What is wrong with this part; empty when nothing is.
    fn said(part: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        for name in ["hook.key", "smtp.password"] {
            let path = dir.path().join(name);
            std::fs::write(&path, "bi-mat").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let file: EscalationFile = toml::from_str(part).unwrap();
        let path = dir.path().join("hub.toml");
        let mut check = Check { path: &path, text: part, base: dir.path(), faults: Vec::new() };
        let terms = check.escalation(&file);
        assert!(terms.is_some() || !check.faults.is_empty());
        check.faults.iter().map(phusa_protocol::fault::Fault::chain).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_way_to_people_is_whole_secured_and_in_order_or_says_what_is_missing() {
        let province = "province = [\"a@x.vn\"]\n";
        let plain = "plain = true\nsmtp = \"smtp://10.0.0.1:25\"\nfrom = \"p@x.vn\"\n";
        let hook = "webhook = \"http://10.0.0.1/x\"\nwebhook_key_file = \"hook.key\"\n";
        for (part, expected) in [
            (format!("{province}{plain}"), ""),
            (format!("{province}plain = true\n{hook}"), ""),
            (
                format!(
                    "{province}{plain}smtp_user = \"p\"\nsmtp_password_file = \"smtp.password\""
                ),
                "",
            ),
            (province.to_owned(), "needs `smtp`, `webhook` or both"),
            (format!("province = []\n{plain}"), "1 to 20 addresses"),
            (format!("province = [\"tỉnh\"]\n{plain}"), "1 to 20 addresses"),
            (format!("{province}{hook}"), "line 2, column 11: `webhook` is https://"),
            (format!("{province}{}", plain.replace("plain = true\n", "")), "say `plain = true`"),
            (format!("{province}{}", plain.replace("smtp://", "smtps://")), "needs `tls_ca_file`"),
            (format!("{province}{}", plain.replace("smtp://", "imap://")), "is none of"),
            (format!("{province}{plain}smtp_user = \"p\""), "belong together"),
            (format!("{province}{plain}head_after = \"2d\""), "follow each other"),
            (
                format!("{province}plain = true\nwebhook = \"http://x/y\""),
                "needs `webhook_key_file`",
            ),
        ] {
            let found = said(&part);
            assert!(
                found.contains(expected) && found.is_empty() == expected.is_empty(),
                "{part}: {found}"
            );
            assert!(!found.contains("bi-mat"));
        }
    }
}
