fn taken_row(i: u32) -> u32 { return pass_.tokens - pass_.rows + i; }
