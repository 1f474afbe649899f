//! The ids a requester has open on one connection, and what it keeps for each.
//!
//! A table of a power of two slots, at least twice as many as were ever open together, indexed by the id's low bits: no hashing,
//! and no allocation per request once it has grown. Ids increase, wrap at 2^32, and skip 0 and every id whose slot is still taken; skipping more than the open ids
//! themselves is allowed (SPEC 6.1). Inside, ids are counted in 64 bits, so that "oldest" stays right across the wrap.

/// Slots at first.
const SLOTS_AT_FIRST: usize = 16;

/// Open ids with a ticket each.
#[derive(Clone, Debug)]
pub struct Leases<T> {
    slots: Vec<Option<Lease<T>>>,
    /// So many slots it may have.
    slots_max: usize,
    next: u64,
    /// No open lease is older than this one.
    oldest: u64,
    open: u32,
}

/// One open id. On the wire it is the low 32 bits of `serial`.
#[derive(Clone, Debug)]
struct Lease<T> {
    serial: u64,
    ticket: T,
}

impl<T> Leases<T> {
    /// An empty table whose first id is 1.
    pub fn new() -> Self {
        Self { slots: Vec::new(), slots_max: 0, next: 1, oldest: 1, open: 0 }
    }

    /// Allows `window` open ids. Memory for them is taken when they are opened: most workers never have as many.
    pub fn reserve(&mut self, window: u32) {
        self.slots_max = (window as usize).saturating_mul(2).next_power_of_two().max(self.slots_max);
    }

    #[cold]
    fn grow(&mut self) {
        let wanted = self.slots.len().saturating_mul(2).max(SLOTS_AT_FIRST).min(self.slots_max);
        let mut slots: Vec<Option<Lease<T>>> = Vec::new();
        slots.resize_with(wanted, || None);
        let old = std::mem::replace(&mut self.slots, slots);
        for lease in old.into_iter().flatten() {
            if let Some(slot) = self.slot(id_of(lease.serial)) {
                *slot = Some(lease);
            }
        }
    }

    /// How many are open.
    pub fn len(&self) -> u32 {
        self.open
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Opens the next id. Gives the ticket back when as many are open as [`reserve`](Self::reserve) allowed.
    pub fn open(&mut self, ticket: T) -> Result<u32, T> {
        let wanted = (self.open as usize).saturating_mul(2);
        if wanted >= self.slots_max {
            return Err(ticket);
        }
        if wanted >= self.slots.len() {
            self.grow();
        }
        loop {
            let serial = self.next;
            self.next = self.next.wrapping_add(1);
            let id = id_of(serial);
            if id == 0 {
                continue;
            }
            if self.open == 0 {
                self.oldest = serial;
            }
            if let Some(slot @ None) = self.slot(id) {
                *slot = Some(Lease { serial, ticket });
                self.open = self.open.saturating_add(1);
                return Ok(id);
            }
        }
    }

    /// The ticket of an open id.
    pub fn get(&self, id: u32) -> Option<&T> {
        let index = (id as usize) & self.slots.len().wrapping_sub(1);
        match self.slots.get(index) {
            Some(Some(lease)) if id_of(lease.serial) == id => Some(&lease.ticket),
            _ => None,
        }
    }

    /// The open ids with their tickets, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().flatten().map(|lease| (id_of(lease.serial), &lease.ticket))
    }

    /// Closes an open id.
    pub fn close(&mut self, id: u32) -> Option<T> {
        let slot = self.slot(id)?;
        if !matches!(slot, Some(lease) if id_of(lease.serial) == id) {
            return None;
        }
        let lease = slot.take()?;
        self.open = self.open.saturating_sub(1);
        Some(lease.ticket)
    }

    /// The oldest open id with its ticket.
    pub fn oldest(&mut self) -> Option<(u32, &T)> {
        if self.open == 0 {
            return None;
        }
        // Most often the oldest is a few steps on. One that stayed open while millions came and went leaves a gap too long to
        // walk: then the table itself is searched, which is shorter.
        let walked = self.oldest.saturating_add(self.slots.len() as u64);
        while self.oldest < walked && !self.is_open(self.oldest) {
            self.oldest = self.oldest.saturating_add(1);
        }
        if !self.is_open(self.oldest) {
            self.oldest = self.slots.iter().flatten().map(|lease| lease.serial).min()?;
        }
        let id = id_of(self.oldest);
        self.get(id).map(|ticket| (id, ticket))
    }

    /// Closes all, oldest first.
    pub fn close_all(&mut self) -> Vec<(u32, T)> {
        let mut closed = Vec::with_capacity(self.open as usize);
        while let Some((id, _)) = self.oldest() {
            if let Some(ticket) = self.close(id) {
                closed.push((id, ticket));
            }
        }
        closed
    }

    #[cfg(test)]
    fn start_at(&mut self, id: u32) {
        self.next = u64::from(id);
        self.oldest = u64::from(id);
    }

    fn is_open(&self, serial: u64) -> bool {
        let index = (id_of(serial) as usize) & self.slots.len().wrapping_sub(1);
        matches!(self.slots.get(index), Some(Some(lease)) if lease.serial == serial)
    }

    fn slot(&mut self, id: u32) -> Option<&mut Option<Lease<T>>> {
        let index = (id as usize) & self.slots.len().wrapping_sub(1);
        self.slots.get_mut(index)
    }
}

impl<T> Default for Leases<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
fn id_of(serial: u64) -> u32 {
    serial as u32
}

#[cfg(test)]
mod tests;
