source ../common/conf/steps/teacher.sh
