//go:build !amd64

package audit

const haveBlocks = false

func skipBlocks(*byte, int, *skipState) int { panic("no block form on this processor") }
