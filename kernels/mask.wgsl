// A score of MASKED or less is a mask: its key is not seen and weighs 0, and where no key is seen all weights are 0. It is finite, since
// compilers may assume that infinity does not occur.
const MASKED = -1e30;
// The least score that is none, the next number above. Largest scores begin with it: beside it e^MASKED is 0.
const LEAST_SCORE = -0x1.93e592p+99;

