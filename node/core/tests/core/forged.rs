//! R7, R8, R10 and R11 of LEASES.md: whatever is forged is refused, and changes nothing.
