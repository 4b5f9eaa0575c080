#include "textflag.h"

#define SYS_clone 56
#define SYS_exit_group 231

// Offsets in a rawCall; see calls.go.
#define call_nr 0
#define call_args 8
#define call_indirect 56
#define call_pass 64
#define call_result 72
#define call_size 80

// imageData and what begins there; see image.go.
#define image 0x500000
#define image_first 0
#define image_stop 8
#define image_ended 16

// func cloneCalls(flags uintptr, tid *uint32, list *rawCall) (pid uintptr)
//
// The new process has the caller's memory and stack pointer. It never touches that stack, nor
// anything of Go's: all it does is in machine, in registers.
TEXT ·cloneCalls(SB),NOSPLIT,$0-32
	MOVQ	flags+0(FP), DI
	MOVQ	$0, SI
	MOVQ	tid+8(FP), R10
	MOVQ	$0, DX
	MOVQ	$0, R8
	MOVQ	$0, R9
	MOVQ	list+16(FP), R12
	MOVQ	$SYS_clone, AX
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	MOVQ	AX, pid+24(FP)
	RET

child:
	MOVQ	$0, R14
	JMP	·machine(SB)

// func machineAddress() *byte
TEXT ·machineAddress(SB),NOSPLIT,$0-8
	LEAQ	·machine(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

// machine makes the calls from R12 on. Where one ends the list, those at R14 follow, if that is not 0.
//
// It is all the code of a program, too, which begins with 0 in every register. So it refers to nothing but itself.
TEXT ·machine(SB),NOSPLIT|NOFRAME,$0-0
	TESTQ	R12, R12
	JNZ	next
	MOVQ	$image, R13
	MOVQ	image_first(R13), R12
	MOVQ	image_stop(R13), R14

next:
	MOVQ	call_nr(R12), AX
	MOVQ	(call_args+0)(R12), DI
	CMPQ	AX, $-1
	JEQ	check
	CMPQ	AX, $-2
	JEQ	jump
	CMPQ	AX, $-3
	JEQ	equal
	MOVQ	(call_args+8)(R12), SI
	MOVQ	(call_args+16)(R12), DX
	MOVQ	(call_args+24)(R12), R10
	MOVQ	(call_args+32)(R12), R8
	MOVQ	(call_args+40)(R12), R9
	CMPQ	call_indirect(R12), $0
	JEQ	direct
	MOVQ	(DI), DI

direct:
	SYSCALL
	MOVQ	AX, call_result(R12)
	CMPQ	AX, $0xfffffffffffff001
	JCS	done
	MOVQ	call_pass(R12), R13
	CMPQ	R13, $-1
	JEQ	done
	ADDQ	AX, R13
	JEQ	done

stop:
	TESTQ	R14, R14
	JZ	exit
	MOVQ	$image, R13
	MOVQ	R12, image_ended(R13)
	MOVQ	R14, R12
	MOVQ	$0, R14
	JMP	next

exit:
	MOVQ	$125, DI
	MOVQ	$SYS_exit_group, AX
	SYSCALL
	UNDEF

done:
	ADDQ	$call_size, R12
	JMP	next

check:
	MOVL	(DI), AX
	TESTL	AX, AX
	JZ	stop
	MOVQ	$0, call_result(R12)
	JMP	done

jump:
	MOVQ	$0, call_result(R12)
	MOVQ	DI, R12
	JMP	next

equal:
	MOVQ	$0, call_result(R12)
	MOVQ	(DI), AX
	CMPQ	AX, (call_args+8)(R12)
	JNE	done
	MOVQ	(call_args+16)(R12), R12
	JMP	next

	// machineEnd
	BYTE	$0x6e; BYTE $0x61; BYTE $0x63; BYTE $0x72
	BYTE	$0x65; BYTE $0x2e; BYTE $0x2e; BYTE $0x2e
