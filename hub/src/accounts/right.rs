//! Who may do what to which account: one pure function (CB-07, NA-25).
//!
//! Three tiers: the general administrator makes unit administrators; a unit's administrator makes
//! sector managers and consumers of its own unit; nobody below makes anybody. Inspectors read all
//! and change nothing. Who may lock and kill is wider than who may issue: whoever stands above.

use phusa_protocol::ids::AgencyId;
use serde::{Deserialize, Serialize};

/// What a person may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Tier 1, at the operating agency.
    GeneralAdmin,
    /// Tier 2: the IT officer of an agency.
    UnitAdmin,
    /// Tier 3: looks after data of a sector, for one agency.
    SectorManager,
    /// Reads every entry and every account; changes nothing.
    Inspector,
    /// Uses shared data.
    Consumer,
}

impl Role {
    /// Every role, in the order they are shown.
    pub const ALL: [Self; 5] =
        [Self::GeneralAdmin, Self::UnitAdmin, Self::SectorManager, Self::Inspector, Self::Consumer];

    /// Its name in commands, forms and the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GeneralAdmin => "general_admin",
            Self::UnitAdmin => "unit_admin",
            Self::SectorManager => "sector_manager",
            Self::Inspector => "inspector",
            Self::Consumer => "consumer",
        }
    }

    /// What it is called, Vietnamese and English.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::GeneralAdmin => ("Quản trị chung", "General administrator"),
            Self::UnitAdmin => ("Quản trị đơn vị", "Unit administrator"),
            Self::SectorManager => ("Quản lý dữ liệu ngành", "Sector data manager"),
            Self::Inspector => ("Thanh tra", "Inspector"),
            Self::Consumer => ("Người khai thác", "Consumer"),
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether an account of this role belongs to an agency.
    #[must_use]
    pub fn has_agency(self) -> bool {
        match self {
            Self::UnitAdmin | Self::SectorManager | Self::Consumer => true,
            Self::GeneralAdmin | Self::Inspector => false,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// From where somebody acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The hub's own console: whoever may run the hub's commands with its keys.
    Console,
    /// A signed-in person.
    Person {
        /// Their role.
        role: Role,
        /// Their unit.
        agency: Option<AgencyId>,
    },
}

/// Somebody who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// As the log names them.
    pub name: String,
    /// Where they stand.
    pub standing: Standing,
    /// From which address, over the network.
    pub address: Option<String>,
}

impl Actor {
    /// Whoever sits at the hub's console.
    #[must_use]
    pub fn console(name: String) -> Self {
        Self { name, standing: Standing::Console, address: None }
    }

    /// The name of their role.
    #[must_use]
    pub fn role(&self) -> &'static str {
        match &self.standing {
            Standing::Console => "console",
            Standing::Person { role, .. } => role.name(),
        }
    }
}

/// What is done to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Look at it.
    See,
    /// Make it, invite its holder anew, unlock it.
    Issue,
    /// Lock it, end its sessions.
    Stop,
}

/// An account that something is done to.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its role.
    pub role: Role,
    /// Its unit.
    pub agency: Option<&'a AgencyId>,
}

/// The rule.
#[must_use]
pub fn may(actor: &Actor, doing: Doing, target: Target<'_>) -> bool {
    let Standing::Person { role, agency } = &actor.standing else { return true };
    let own_unit = agency.is_some() && agency.as_ref() == target.agency;
    let below_unit = matches!(target.role, Role::SectorManager | Role::Consumer) && own_unit;
    match (role, doing) {
        (Role::GeneralAdmin, Doing::Issue) => {
            matches!(target.role, Role::UnitAdmin | Role::Inspector)
        }
        // Two general administrators may stop each other: one whose account was stolen must be
        // stopped before somebody has reached the console.
        (Role::GeneralAdmin, Doing::See | Doing::Stop) => true,
        (Role::UnitAdmin, Doing::Issue | Doing::Stop) => below_unit,
        (Role::UnitAdmin, Doing::See) => own_unit,
        (Role::Inspector, Doing::See) => true,
        (Role::SectorManager | Role::Inspector | Role::Consumer, _) => false,
    }
}

/// What somebody decides at the hub's console, in their own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deciding {
    /// Who gets an identity, and who comes back after a stop.
    Admit,
    /// That an agent may speak no longer.
    Stop,
    /// That rows are destroyed, or must not be.
    End,
    /// Which rows are looked at or taken out.
    Read,
    /// What is done with backups and incidents.
    Keep,
    /// That agents pause, go on and read again.
    Steer,
    /// Who is to be called at an agency.
    Call,
    /// When the system is under maintenance.
    Announce,
    /// Which releases agents are to run.
    Update,
}

impl Deciding {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Admit,
        Self::Stop,
        Self::End,
        Self::Read,
        Self::Keep,
        Self::Steer,
        Self::Call,
        Self::Announce,
        Self::Update,
    ];

    /// In a sentence: "may not …".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Admit => "let agents in",
            Self::Stop => "stop this agent",
            Self::End => "decide about the end of these rows",
            Self::Read => "read these rows",
            Self::Keep => "keep backups or close incidents",
            Self::Steer => "pause agents or have them read again",
            Self::Call => "say who is to be called at this agency",
            Self::Announce => "announce maintenance",
            Self::Update => "decide which releases agents run",
        }
    }
}

/// The rule for decisions: the general administrator decides everything; a unit's administrator stops
/// agents, steers them, ends and reads rows of the own unit, and says who is called there; its sector
/// managers read rows; inspectors read everything.
#[must_use]
pub fn may_decide(
    role: Role,
    agency: Option<&AgencyId>,
    deciding: Deciding,
    of: Option<&AgencyId>,
) -> bool {
    let own = agency.is_some() && agency == of;
    match role {
        Role::GeneralAdmin => true,
        Role::UnitAdmin => {
            let may =
                [Deciding::Stop, Deciding::End, Deciding::Read, Deciding::Steer, Deciding::Call];
            own && may.contains(&deciding)
        }
        Role::SectorManager => own && deciding == Deciding::Read,
        Role::Inspector => deciding == Deciding::Read,
        Role::Consumer => false,
    }
}

/// Whose entries of the transfer log somebody may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readable {
    /// Everybody's.
    All,
    /// Those of one agency.
    Of(AgencyId),
    /// None.
    None,
}

/// The rule for entries: the hub's administrators and inspectors read all, people of a unit their
/// own unit's, consumers none.
#[must_use]
pub fn readable(actor: &Actor) -> Readable {
    let Standing::Person { role, agency } = &actor.standing else { return Readable::All };
    match (role, agency) {
        (Role::GeneralAdmin | Role::Inspector, _) => Readable::All,
        (Role::UnitAdmin | Role::SectorManager, Some(agency)) => Readable::Of(agency.clone()),
        (Role::UnitAdmin | Role::SectorManager, None) | (Role::Consumer, _) => Readable::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agency(name: &str) -> Option<AgencyId> {
        (!name.is_empty()).then(|| AgencyId::new(name).unwrap())
    }

    fn person(role: Role, unit: &str) -> Actor {
        let standing = Standing::Person { role, agency: agency(unit) };
        Actor { name: "x".to_owned(), standing, address: None }
    }

    /// Roles (with unit A where they have one) that this person may do this to.
    fn done_to(actor: &Actor, doing: Doing, unit: &str) -> Vec<Role> {
        let may = |role: &Role| {
            let agency = if role.has_agency() { agency(unit) } else { None };
            may(actor, doing, Target { role: *role, agency: agency.as_ref() })
        };
        Role::ALL.into_iter().filter(may).collect()
    }

    #[test]
    fn tier_one_makes_tier_two_tier_two_makes_tier_three_of_its_own_unit_and_tier_three_nobody() {
        use Role::{Consumer, GeneralAdmin, Inspector, SectorManager, UnitAdmin};
        let own: [(Role, Doing, &[Role], &[Role]); 15] = [
            // role, doing, to accounts of the own unit, to those of another
            (GeneralAdmin, Doing::See, &Role::ALL, &Role::ALL),
            (GeneralAdmin, Doing::Issue, &[UnitAdmin, Inspector], &[UnitAdmin, Inspector]),
            (GeneralAdmin, Doing::Stop, &Role::ALL, &Role::ALL),
            (UnitAdmin, Doing::See, &[UnitAdmin, SectorManager, Consumer], &[]),
            (UnitAdmin, Doing::Issue, &[SectorManager, Consumer], &[]),
            (UnitAdmin, Doing::Stop, &[SectorManager, Consumer], &[]),
            (SectorManager, Doing::See, &[], &[]),
            (SectorManager, Doing::Issue, &[], &[]),
            (SectorManager, Doing::Stop, &[], &[]),
            (Inspector, Doing::See, &Role::ALL, &Role::ALL),
            (Inspector, Doing::Issue, &[], &[]),
            (Inspector, Doing::Stop, &[], &[]),
            (Consumer, Doing::See, &[], &[]),
            (Consumer, Doing::Issue, &[], &[]),
            (Consumer, Doing::Stop, &[], &[]),
        ];
        for (role, doing, in_own, in_other) in own {
            let unit = if role.has_agency() { "H57.12" } else { "" };
            let actor = person(role, unit);
            assert_eq!(done_to(&actor, doing, "H57.12"), in_own, "{role} {doing:?}, own unit");
            assert_eq!(done_to(&actor, doing, "H57.13"), in_other, "{role} {doing:?}, other unit");
        }
        let console = Actor::console("console:root".to_owned());
        assert_eq!(done_to(&console, Doing::Issue, "H57.12"), Role::ALL);
    }

    #[test]
    fn who_may_decide_what_at_the_console_is_one_rule() {
        use Deciding::{Call, End, Read, Steer, Stop};
        let cases: [(Role, &[Deciding], &[Deciding]); 5] = [
            // role, about the own unit, about another
            (Role::GeneralAdmin, &Deciding::ALL, &Deciding::ALL),
            (Role::UnitAdmin, &[Stop, End, Read, Steer, Call], &[]),
            (Role::SectorManager, &[Read], &[]),
            (Role::Inspector, &[Read], &[Read]),
            (Role::Consumer, &[], &[]),
        ];
        for (role, in_own, in_other) in cases {
            let unit = if role.has_agency() { agency("H57.12") } else { None };
            let may = |of: &str| {
                let of = agency(of);
                let may = |one: &Deciding| may_decide(role, unit.as_ref(), *one, of.as_ref());
                Deciding::ALL.into_iter().filter(may).collect::<Vec<_>>()
            };
            assert_eq!(may("H57.12"), in_own, "{role}");
            assert_eq!(may("H57.13"), in_other, "{role}");
            // What concerns no unit is not a unit's to decide.
            let expected = if role.has_agency() { &[][..] } else { in_other };
            assert_eq!(may(""), expected, "{role}");
        }
    }

    #[test]
    fn entries_are_read_by_right() {
        let check = |role, unit: &str, expected: Readable| {
            assert_eq!(readable(&person(role, unit)), expected, "{role}");
        };
        check(Role::GeneralAdmin, "", Readable::All);
        check(Role::Inspector, "", Readable::All);
        check(Role::UnitAdmin, "H57.12", Readable::Of(AgencyId::new("H57.12").unwrap()));
        check(Role::SectorManager, "H57.12", Readable::Of(AgencyId::new("H57.12").unwrap()));
        check(Role::Consumer, "H57.12", Readable::None);
    }
}
