package audit

import "golang.org/x/sys/cpu"

// haveBlocks says whether the processor has what skipBlocks uses; every server since 2013 (Haswell) and 2015 (Excavator) has.
var haveBlocks = cpu.X86.HasAVX2 && cpu.X86.HasPCLMULQDQ && cpu.X86.HasPOPCNT

// skipBlocks walks over n blocks from p until the bracket that takes st.depth to 0, and gives the index behind it. Where there is none it
// gives -1 and leaves in st where it stands.
//
//go:noescape
func skipBlocks(p *byte, n int, st *skipState) int
