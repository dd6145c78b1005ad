//! The proof that a login cannot change the agency's data (CT-16a).
//!
//! What counts is what the login could do, not what it means to do: roles that lead to rights count
//! as the rights themselves.

use phusa_protocol::fault::{Code, Fault};

use super::session::{Session, number, text};

/// How many rights are named; the rest is only counted.
const NAMED_MAX: usize = 5;

/// Every way in which the login could change data, as text, a few of them.
pub(super) const WAYS_SQL: &str = "\
select top (6) w.way from ( \
  select N'it is a member of server role ' + r.name as way \
  from (values (N'sysadmin'), (N'securityadmin'), (N'serveradmin'), (N'dbcreator')) r(name) \
  where is_srvrolemember(r.name) = 1 \
  union all select N'it is a member of database role ' + r.name \
  from (values (N'db_owner'), (N'db_datawriter'), (N'db_ddladmin'), (N'db_securityadmin'), \
    (N'db_accessadmin')) r(name) where is_member(r.name) = 1 \
  union all select N'it may ' + p.permission_name + N' on the server' \
  from sys.fn_my_permissions(null, N'SERVER') p where p.permission_name in (N'CONTROL SERVER', \
    N'ALTER ANY DATABASE', N'ALTER ANY LOGIN', N'ALTER ANY SERVER ROLE', N'IMPERSONATE ANY LOGIN') \
  union all select N'it may ' + p.permission_name + N' in the database' \
  from sys.fn_my_permissions(null, N'DATABASE') p where p.permission_name in (N'INSERT', \
    N'UPDATE', N'DELETE', N'ALTER', N'CONTROL', N'TAKE OWNERSHIP', N'ALTER ANY SCHEMA', \
    N'ALTER ANY ROLE', N'ALTER ANY USER') \
  union all select N'it may ' + r.name + N' ' + s.name + N'.' + o.name \
  from sys.objects o join sys.schemas s on s.schema_id = o.schema_id \
  cross join (values (N'INSERT'), (N'UPDATE'), (N'DELETE'), (N'ALTER'), (N'CONTROL'), \
    (N'TAKE OWNERSHIP')) r(name) \
  where o.type in ('U', 'V') and o.is_ms_shipped = 0 and has_perms_by_name( \
    quotename(s.name) + N'.' + quotename(o.name), N'OBJECT', r.name) = 1 \
  union all select N'it may UPDATE column ' + c.name + N' of ' + s.name + N'.' + o.name \
  from sys.objects o join sys.schemas s on s.schema_id = o.schema_id \
  join sys.columns c on c.object_id = o.object_id \
  where o.type in ('U', 'V') and o.is_ms_shipped = 0 and has_perms_by_name( \
    quotename(s.name) + N'.' + quotename(o.name), N'OBJECT', N'UPDATE', c.name, N'COLUMN') = 1 \
) w";

/// How many procedures of the agency's the login may run: what they do, nobody can tell from here.
pub(super) const PROCEDURES_SQL: &str = "\
select cast(count(*) as bigint) from sys.procedures p \
join sys.schemas s on s.schema_id = p.schema_id \
where p.is_ms_shipped = 0 and has_perms_by_name( \
  quotename(s.name) + N'.' + quotename(p.name), N'OBJECT', N'EXECUTE') = 1";

/// What of the login concerns capture.
pub(super) struct Login {
    /// The first ways in which it could change data, as text; empty is the proof.
    pub(super) can_write: Vec<String>,
    /// Procedures that it may run.
    pub(super) procedures: i64,
}

impl Login {
    /// Asks the server what the login could do.
    pub(super) async fn inspect(session: &mut Session) -> Result<Self, Fault> {
        let doing = "cannot find out what the login may do";
        let rows = session.rows(doing, WAYS_SQL, &[]).await?;
        let can_write = rows.iter().map(|row| text(row, 0)).collect::<Result<_, _>>()?;
        let row = session.row(doing, PROCEDURES_SQL, &[]).await?;
        Ok(Self { can_write, procedures: number(&row, 0)? })
    }

    /// The fault of a login that could change data, unless the agency says why it may.
    pub(super) fn refusal(&self, user: &str, allowed_because: Option<&str>) -> Option<Fault> {
        if self.can_write.is_empty() || allowed_because.is_some_and(|why| !why.trim().is_empty()) {
            return None;
        }
        let named: Vec<_> = self.can_write.iter().take(NAMED_MAX).map(String::as_str).collect();
        let more = if self.can_write.len() > NAMED_MAX { "; and more" } else { "" };
        let what = format!("login {user} can change data: {}{more}", named.join("; "));
        Some(Fault::new(Code::SourceCanWrite, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_can_write_is_refused_unless_the_agency_says_why() {
        let login = |ways: usize| Login {
            can_write: (1..=ways).map(|n| format!("it may {n}")).collect(),
            procedures: 0,
        };
        assert!(login(0).refusal("phusa", None).is_none());
        assert!(login(1).refusal("phusa", Some("the vendor allows one login only")).is_none());
        let fault = login(2).refusal("phusa", Some(" ")).unwrap();
        assert_eq!(fault.code, Code::SourceCanWrite);
        assert_eq!(fault.what, "login phusa can change data: it may 1; it may 2");
        assert!(login(6).refusal("phusa", None).unwrap().what.ends_with("it may 5; and more"));
    }
}
