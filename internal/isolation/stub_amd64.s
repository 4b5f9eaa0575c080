#include "textflag.h"

// The program of a script; see stub.go. BX is at the call that comes next.
TEXT ·stub(SB), NOSPLIT|NOFRAME, $0-0
	MOVL	$0x20000000, BX	// dataBase
next:
	MOVQ	0(BX), AX
	MOVQ	8(BX), DI
	MOVQ	16(BX), SI
	MOVQ	24(BX), DX
	MOVQ	32(BX), R10
	MOVQ	40(BX), R8
	MOVQ	48(BX), R9
	SYSCALL
	MOVQ	72(BX), CX
	MOVQ	AX, 0(CX)
	CMPQ	AX, 56(BX)
	JLT	failed
	ADDQ	$80, BX
	JMP	next
failed:
	MOVQ	64(BX), BX
	JMP	next

// func stubCode() unsafe.Pointer
TEXT ·stubCode(SB), NOSPLIT, $0-8
	LEAQ	·stub(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
