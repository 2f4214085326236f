select 'a''b', E'\'\\', U&'\0061' uescape '!', N'n', B'01', x'fF', $$d'$x$$, $t$e$$f$t$,
  'part' -- of
  'more', 1, 1_000, 0x1F, 0b01, 0o17, 1., .5, 1.5e-3, $1, "Q""i", U&"d!0061" UESCAPE '!'
