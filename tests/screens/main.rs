//! What people see: the wizard driven in a real terminal from an empty folder to the first rows at a
//! real hub. The screens stand in `docs/wizard.md`; `UPDATE=1` writes them anew.

mod captures;
mod wizard;
