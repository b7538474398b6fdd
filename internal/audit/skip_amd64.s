#include "textflag.h"

// Per block of 64 bytes: the quotes that are not escaped, by the carry of an addition over runs of backslashes; what is inside strings,
// by a carry-less multiplication with all ones (a prefix xor); brackets outside strings, whose two kinds differ in bit 5 alone.
// The method is that of "Parsing Gigabytes of JSON per Second" (Langdale and Lemire, 2019), sections 3.1.1 and 3.1.2; counting
// brackets in whole blocks is that of JSONSki (Jiang and Zhao, 2022).

// func skipBlocks(p *byte, n int, st *skipState) int
TEXT ·skipBlocks(SB), NOSPLIT, $0-32
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX
	MOVQ st+16(FP), DI
	MOVQ 0(DI), R8             // depth
	MOVQ 8(DI), R9             // inside a string: all ones
	MOVQ 16(DI), R10           // the next byte is escaped: 1
	MOVQ SI, DX
	MOVQ $0x5555555555555555, R12
	MOVQ $0x2222222222222222, AX // "
	VMOVQ AX, X8
	VPBROADCASTQ X8, Y8
	MOVQ $0x5c5c5c5c5c5c5c5c, AX // backslash
	VMOVQ AX, X9
	VPBROADCASTQ X9, Y9
	MOVQ $0x2020202020202020, AX
	VMOVQ AX, X10
	VPBROADCASTQ X10, Y10
	MOVQ $0x7b7b7b7b7b7b7b7b, AX // { and, with bit 5, [
	VMOVQ AX, X11
	VPBROADCASTQ X11, Y11
	MOVQ $0x7d7d7d7d7d7d7d7d, AX // } and, with bit 5, ]
	VMOVQ AX, X12
	VPBROADCASTQ X12, Y12
	VPCMPEQB X13, X13, X13

loop:
	TESTQ CX, CX
	JZ    out
	VMOVDQU (SI), Y0
	VMOVDQU 32(SI), Y1
	VPCMPEQB Y9, Y0, Y2
	VPCMPEQB Y9, Y1, Y3
	VPMOVMSKB Y2, AX
	VPMOVMSKB Y3, BX
	SHLQ $32, BX
	ORQ  BX, AX                // backslashes
	VPCMPEQB Y8, Y0, Y2
	VPCMPEQB Y8, Y1, Y3
	VPMOVMSKB Y2, R11
	VPMOVMSKB Y3, BX
	SHLQ $32, BX
	ORQ  BX, R11               // quotes
	MOVQ AX, BX
	ORQ  R10, BX
	JZ   strings
	MOVQ R10, BX
	NOTQ BX
	ANDQ BX, AX                // an escaped backslash escapes nothing
	LEAQ (AX)(AX*1), BX
	ORQ  R10, BX               // what follows a backslash
	MOVQ BX, R13
	ORQ  R12, R13
	NOTQ R13
	ANDQ AX, R13               // runs that begin at odd places
	ADDQ AX, R13
	SBBQ R10, R10
	NEGQ R10
	SHLQ $1, R13
	XORQ R12, R13
	ANDQ BX, R13               // escaped bytes
	NOTQ R13
	ANDQ R13, R11

strings:
	VMOVQ R11, X4
	VPCLMULQDQ $0, X13, X4, X4
	VMOVQ X4, BX
	XORQ R9, BX
	MOVQ BX, R9
	SARQ $63, R9
	NOTQ BX                    // outside strings
	VPOR Y10, Y0, Y0
	VPOR Y10, Y1, Y1
	VPCMPEQB Y11, Y0, Y2
	VPCMPEQB Y11, Y1, Y3
	VPMOVMSKB Y2, AX
	VPMOVMSKB Y3, R13
	SHLQ $32, R13
	ORQ  R13, AX
	ANDQ BX, AX                // opening brackets
	VPCMPEQB Y12, Y0, Y2
	VPCMPEQB Y12, Y1, Y3
	VPMOVMSKB Y2, R11
	VPMOVMSKB Y3, R13
	SHLQ $32, R13
	ORQ  R13, R11
	ANDQ BX, R11               // closing brackets
	POPCNTQ R11, R13
	CMPQ R8, R13
	JLE  near
	POPCNTQ AX, BX
	ADDQ BX, R8
	SUBQ R13, R8

next:
	ADDQ $64, SI
	DECQ CX
	JMP  loop

near:                          // the end may be in this block: close by close
	TESTQ R11, R11
	JZ   rest
	MOVQ R11, BX
	NEGQ BX
	ANDQ R11, BX               // the first closing bracket that is left
	LEAQ -1(BX), R13
	ANDQ AX, R13
	POPCNTQ R13, R13
	ADDQ R13, R8               // the opening ones before it
	DECQ R8
	JZ   found
	MOVQ BX, R13
	NEGQ R13
	ANDQ R13, AX
	LEAQ -1(R11), R13
	ANDQ R13, R11
	JMP  near

rest:
	POPCNTQ AX, BX
	ADDQ BX, R8
	JMP  next

found:
	BSFQ BX, BX
	SUBQ DX, SI
	LEAQ 1(SI)(BX*1), AX
	MOVQ AX, ret+24(FP)
	VZEROUPPER
	RET

out:
	MOVQ R8, 0(DI)
	MOVQ R9, 8(DI)
	MOVQ R10, 16(DI)
	MOVQ $-1, AX
	MOVQ AX, ret+24(FP)
	VZEROUPPER
	RET
