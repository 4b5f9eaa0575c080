#include "textflag.h"

// The program of a script; see stub.go. R19 is at the call that comes next.
TEXT ·stub(SB), NOSPLIT|NOFRAME, $0-0
	MOVD	$0x20000000, R19	// dataBase
next:
	MOVD	0(R19), R8
	MOVD	8(R19), R0
	MOVD	16(R19), R1
	MOVD	24(R19), R2
	MOVD	32(R19), R3
	MOVD	40(R19), R4
	MOVD	48(R19), R5
	SVC
	MOVD	72(R19), R9
	MOVD	R0, 0(R9)
	MOVD	56(R19), R9
	CMP	R9, R0
	BLT	failed
	ADD	$80, R19
	JMP	next
failed:
	MOVD	64(R19), R19
	JMP	next

// func stubCode() unsafe.Pointer
TEXT ·stubCode(SB), NOSPLIT, $0-8
	MOVD	$·stub(SB), R0
	MOVD	R0, ret+0(FP)
	RET
