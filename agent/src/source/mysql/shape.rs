//! Pure: where the columns that are read stand in the log's rows, and rows taken apart by it.

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::row::put_field;
use phusa_protocol::value::Field;

use super::cell::{BadCell, Layout};
use super::event::Columns;
use super::target::Target;
use super::value::{put_sized, put_tuple_head};

/// Where the columns of a target stand in the rows of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    layouts: Vec<Layout>,
    /// For each column of the table, which column of the target it is.
    wanted: Vec<Option<usize>>,
    /// For each column of the target, where it stands in the table.
    places: Vec<usize>,
    /// For each column of the target, the labels that the log names.
    labels: Vec<Option<Vec<Vec<u8>>>>,
}

/// One field of a row in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    /// The image does not have it.
    Absent,
    Null,
    Bytes(&'a [u8]),
}

/// A row of the log: the columns of the target, in its order.
pub(super) type Image<'a> = Vec<Cell<'a>>;

impl Shape {
    /// Finds the target's columns by name, or, where the log has no names, by the place that the
    /// catalogue gives them, if the log's columns are those of the catalogue.
    ///
    /// # Errors
    /// `source_schema` when a mapped column is no longer what it was.
    pub(super) fn of(target: &Target, columns: Columns) -> Result<Self, Fault> {
        let (schema, table) = target.logged_names();
        let drift = |what: String| Err(Fault::new(Code::SourceSchema, what));
        if columns.names.is_none() && !is_as_catalogued(target, &columns) {
            return drift(format!("{schema}.{table} has other columns in the log than now"));
        }
        let mut places = Vec::with_capacity(target.columns.len());
        for (at, (column, kind)) in target.columns.iter().zip(&target.kinds).enumerate() {
            let name = column.name.as_bytes();
            let place = match &columns.names {
                Some(names) => names.iter().position(|found| found == name),
                None => target.places.get(at).copied(),
            };
            let Some(place) = place else {
                return drift(format!("{schema}.{table} no longer has the column {}", column.name));
            };
            if !columns.layouts.get(place).is_some_and(|layout| layout.fits(kind)) {
                let (name, was) = (&column.name, &column.type_name);
                return drift(format!("column {name} of {schema}.{table} is no longer {was}"));
            }
            places.push(place);
        }
        let wanted = (0..columns.layouts.len())
            .map(|place| places.iter().position(|wanted| *wanted == place))
            .collect();
        let logged = |place: &usize| {
            let found = columns.labels.iter().find(|(at, _)| at == place);
            found.map(|(_, labels)| labels.clone())
        };
        let labels = places.iter().map(logged).collect();
        Ok(Self { layouts: columns.layouts, wanted, places, labels })
    }

    /// How many columns the table has.
    pub(super) fn column_count(&self) -> usize {
        self.layouts.len()
    }

    /// Takes one row off `bytes`; `present` says which columns it has.
    pub(super) fn take<'a>(
        &self,
        present: &[u8],
        bytes: &mut &'a [u8],
    ) -> Result<Image<'a>, BadCell> {
        let has = |place: usize| bit(present, place);
        let count = (0..self.layouts.len()).filter(|place| has(*place)).count();
        // An image without a column takes no bytes, and whoever takes images to the end would never
        // come there. No server writes one.
        if count == 0 {
            return Err(BadCell::Cut);
        }
        let (nulls, rest) = bytes.split_at_checked(count.div_ceil(8)).ok_or(BadCell::Cut)?;
        *bytes = rest;
        let mut image = vec![Cell::Absent; self.places.len()];
        let there = self.layouts.iter().enumerate().filter(|(place, _)| has(*place));
        for (at, (place, layout)) in there.enumerate() {
            let is_null = bit(nulls, at);
            let cell = if is_null { Cell::Null } else { Cell::Bytes(layout.take(bytes)?) };
            if let Some(slot) = self.wanted.get(place).copied().flatten()
                && let Some(slot) = image.get_mut(slot)
            {
                *slot = cell;
            }
        }
        Ok(image)
    }

    /// Appends a tuple of these columns of the target; what is absent is unchanged.
    pub(super) fn put(
        &self,
        target: &Target,
        columns: impl ExactSizeIterator<Item = usize>,
        image: &[Cell<'_>],
        out: &mut Vec<u8>,
    ) -> Result<(), BadCell> {
        put_tuple_head(out, columns.len());
        for column in columns {
            match image.get(column).copied().unwrap_or(Cell::Absent) {
                Cell::Absent => put_field(out, Field::Unchanged),
                Cell::Null => put_field(out, Field::Null),
                Cell::Bytes(bytes) => {
                    let (layout, kind) = self.of_column(target, column)?;
                    let labels = self.labels.get(column).and_then(Option::as_deref);
                    let mut result = Ok(());
                    put_sized(out, |out| {
                        result = layout.put(kind, labels, bytes, out);
                        Ok(())
                    })?;
                    result?;
                }
            }
        }
        Ok(())
    }

    fn of_column<'t>(
        &self,
        target: &'t Target,
        column: usize,
    ) -> Result<(Layout, &'t super::kind::Kind), BadCell> {
        let layout = self.places.get(column).and_then(|place| self.layouts.get(*place));
        layout.copied().zip(target.kinds.get(column)).ok_or(BadCell::Cut)
    }
}

/// Whether the log's columns are, one by one, what the catalogue says of the table now.
fn is_as_catalogued(target: &Target, columns: &Columns) -> bool {
    let fits = |(layout, kind): (&Layout, &Option<super::kind::Kind>)| {
        kind.as_ref().is_none_or(|kind| layout.fits(kind))
    };
    columns.layouts.len() == target.table_kinds.len()
        && columns.layouts.iter().zip(&target.table_kinds).all(fits)
}

fn bit(bytes: &[u8], at: usize) -> bool {
    bytes.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}
