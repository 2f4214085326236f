/* a /* nested */ one */ select -- rest
 a/**/+/* */-1;--